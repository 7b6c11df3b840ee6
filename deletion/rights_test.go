package deletion

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAllows has roles as Azure writes them.
func TestAllows(t *testing.T) {
	for _, tt := range []struct {
		name        string
		permissions []Permission
		want        bool // for ActionDelete
	}{
		{"no role", nil, false},
		{"an empty one", []Permission{{}}, false},
		{"by name", []Permission{{Actions: []string{ActionReadPools, ActionDelete}}}, true},
		{"in another case", []Permission{{Actions: []string{"microsoft.keyvault/MANAGEDHSMS/privateendpointconnections/Delete"}}}, true},
		{"Owner", []Permission{{Actions: []string{"*"}}}, true},
		{"Reader", []Permission{{Actions: []string{"*/read"}}}, false},
		{"everything of the provider", []Permission{{Actions: []string{"Microsoft.KeyVault/*"}}}, true},
		{"everything of pools, of any name", []Permission{{Actions: []string{"Microsoft.KeyVault/managedHSMs/*"}}}, true},
		{"every deletion", []Permission{{Actions: []string{"*/delete"}}}, true},
		{"a star in the middle", []Permission{{Actions: []string{"Microsoft.KeyVault/*/delete"}}}, true},
		{"two stars", []Permission{{Actions: []string{"*/managedHSMs/*/delete"}}}, true},
		{"two stars that would have to share a letter", []Permission{{Actions: []string{"*Connections/d*delete"}}}, false},
		{"a star for nothing", []Permission{{Actions: []string{ActionDelete + "*"}}}, true},
		{"vaults are no pools", []Permission{{Actions: []string{"Microsoft.KeyVault/vaults/*"}}}, false},
		{"a name that only begins so", []Permission{{Actions: []string{ActionDelete + "s"}}}, false},
		{"a beginning of the name", []Permission{{Actions: []string{"Microsoft.KeyVault/managedHSMs"}}}, false},
		{"taken out", []Permission{{Actions: []string{"*"}, NotActions: []string{ActionDelete}}}, false},
		{"taken out by a star", []Permission{{Actions: []string{"Microsoft.KeyVault/*"}, NotActions: []string{"*/DELETE"}}}, false},
		{"something else taken out", []Permission{{Actions: []string{"*"}, NotActions: []string{"Microsoft.Authorization/*/Delete"}}}, true},
		{"taken out of one role, in another", []Permission{{Actions: []string{"*"}, NotActions: []string{"*/delete"}}, {Actions: []string{ActionDelete}}}, true},
		{"no pattern at all", []Permission{{Actions: []string{""}}}, false},
	} {
		if got := Allows(tt.permissions, ActionDelete); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestRole compares the actions with the role that is deployed.
func TestRole(t *testing.T) {
	text, err := os.ReadFile("../deploy/role.json")
	if err != nil {
		t.Fatal(err)
	}
	var role struct{ Actions []string }
	if err := json.Unmarshal(text, &role); err != nil {
		t.Fatal(err)
	}
	slices.Sort(role.Actions)
	want := slices.Sorted(slices.Values([]string{ActionReadPools, ActionReadConnections, ActionDelete, ActionFollow}))
	if diff := cmp.Diff(want, role.Actions); diff != "" {
		t.Errorf("deploy/role.json (-want +got):\n%s", diff)
	}
}

// TestPermissions asks for them. {arm} in a link stands for ARM's own address.
func TestPermissions(t *testing.T) {
	const asked = "GET " + pool + "/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"
	id, err := ParsePoolID(pool)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		answers []goldenAnswer
		asked   []string
		want    []Permission
		kind    Kind
	}{
		{"one role", []goldenAnswer{page("", `{"actions":["*"],"notActions":["*/write"],"dataActions":[],"notDataActions":[]}`)}, []string{asked},
			[]Permission{{[]string{"*"}, []string{"*/write"}}}, Present},
		{"two pages", []goldenAnswer{page("{arm}/next?x=1", `{"actions":["a"]}`), page("", `{"actions":["b"],"notActions":null}`)}, []string{asked, "GET /next?x=1"},
			[]Permission{{Actions: []string{"a"}}, {Actions: []string{"b"}}}, Present},
		{"no role", []goldenAnswer{page("")}, []string{asked}, nil, Present},
		{"denied", []goldenAnswer{refused(403, "AuthorizationFailed")}, []string{asked}, nil, Denied},
		{"no JSON", []goldenAnswer{content(200, "<html>")}, []string{asked}, nil, Rejected},
		{"a next link to a stranger", []goldenAnswer{page("https://stranger.example/next")}, []string{asked}, nil, Untrusted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := serve(t, tt.answers...)
			c, _ := a.client()
			got, out, err := c.Permissions(t.Context(), id)
			if err != nil || out.Kind != tt.kind || out.Sent != len(tt.asked) {
				t.Errorf("%s after %d requests, %v; want %s after %d", out.Kind, out.Sent, err, tt.kind, len(tt.asked))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("permissions (-want +got):\n%s", diff)
			}
			a.expect(tt.asked...)
		})
	}
}

// TestGreet takes any answer for a greeting but a refusal of the token.
func TestGreet(t *testing.T) {
	for _, tt := range []struct {
		answer goldenAnswer
		want   Kind
	}{{page(""), Present}, {refused(401, "InvalidAuthenticationToken"), Denied}, {refused(503, "ServiceUnavailable"), Unavailable}} {
		a := serve(t, tt.answer)
		c, _ := a.client()
		if out, err := c.Greet(t.Context()); err != nil || out.Kind != tt.want || out.HTTPStatus != tt.answer.status {
			t.Errorf("%s, HTTP %d, %v; want %s, HTTP %d", out.Kind, out.HTTPStatus, err, tt.want, tt.answer.status)
		}
		a.expect("GET /subscriptions?api-version=2022-12-01")
	}
}
