package deletion

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	subscription = "/subscriptions/00000000-0000-0000-0000-000000000000"
	group        = subscription + "/resourceGroups/sample-group"
	pool         = group + "/providers/Microsoft.KeyVault/managedHSMs/sample-mhsm"
	connection   = pool + "/privateEndpointConnections/sample-pec"
	endpoint     = group + "/providers/Microsoft.Network/privateEndpoints/sample-pe"
)

func must[T any](t testing.TB, parse func(string) (T, error), id string) T {
	t.Helper()
	v, err := parse(id)
	if err != nil {
		t.Fatalf("%s is refused: %v", id, err)
	}
	return v
}

// swap writes one part of the sample connection's id anew.
func swap(old, new string) string { return strings.Replace(connection, old, new, 1) }

var goodConnections = []struct {
	name, id string
	want     string // what String rebuilds; empty: the id itself
}{
	{"the sample of the documentation", connection, ""},
	{"all in lower case", strings.ToLower(connection), connection},
	{"all in upper case", strings.ToUpper(connection), "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/SAMPLE-GROUP/providers/Microsoft.KeyVault/managedHSMs/SAMPLE-MHSM/privateEndpointConnections/SAMPLE-PEC"},
	{"spelt as in the sample response", swap("managedHSMs", "managedhsms"), connection},
	{"spelt as in recorded traffic", swap("resourceGroups", "resourcegroups"), connection},
	{"a GUID with letters of both cases", swap("00000000-0000-0000-0000-000000000000", "aBcDeF01-2345-6789-abcd-EF0123456789"), ""},
	{"a resource group beyond ASCII", swap("sample-group", "Größe_模型(2).x"), ""},
	{"a resource group of one letter", swap("sample-group", "g"), ""},
	{"a resource group beginning with a dot", swap("sample-group", ".g"), ""},
	{"a resource group of 90 characters beyond ASCII", swap("sample-group", strings.Repeat("é", 90)), ""},
	{"the shortest pool name", swap("sample-mhsm", "abc"), ""},
	{"the longest pool name", swap("sample-mhsm", strings.Repeat("a", 24)), ""},
	{"a connection named after its endpoint", swap("sample-pec", "pe1.0a1b2c3d-0000-4000-8000-00000000000f"), ""},
	{"a connection beginning with an underscore", swap("sample-pec", "_pec"), ""},
	{"the longest connection name", swap("sample-pec", strings.Repeat("c", 128)), ""},
}

func TestConnectionIDs(t *testing.T) {
	for _, tt := range goodConnections {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "" {
				tt.want = tt.id
			}
			id := must(t, ParseConnectionID, tt.id)
			if got := id.String(); got != tt.want {
				t.Errorf("String:\n got %s\nwant %s", got, tt.want)
			}
			checkConnection(t, id)
		})
	}
}

// checkConnection holds for whatever id is accepted: what it rebuilds reads back as itself, and its path has the places of
// the documentation, each filled with its name and nothing else.
func checkConnection(t *testing.T, id ConnectionID) {
	t.Helper()
	if again, err := ParseConnectionID(id.String()); err != nil || again != id {
		t.Errorf("%q reads back as %+v, %v", id, again, err)
	}
	want := []string{"", "subscriptions", id.Pool.SubscriptionID, "resourceGroups", id.Pool.ResourceGroup,
		"providers", "Microsoft.KeyVault", "managedHSMs", id.Pool.Name, "privateEndpointConnections", id.Name}
	u, err := url.Parse("https://management.azure.com" + id.path() + "?api-version=1")
	if err != nil {
		t.Fatalf("path %q makes no URL: %v", id.path(), err)
	}
	if u.Host != "management.azure.com" || u.RawQuery != "api-version=1" || u.Fragment != "" {
		t.Errorf("path %q reaches beyond the path of %v", id.path(), u)
	}
	got := strings.Split(u.EscapedPath(), "/")
	for i := range got {
		if got[i], err = url.PathUnescape(got[i]); err != nil {
			t.Errorf("path %q: %v", id.path(), err)
		}
		if got[i] == "." || got[i] == ".." {
			t.Errorf("path %q climbs", id.path())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("segments of %q (-want +got):\n%s", id.path(), diff)
	}
}

func TestHostileConnectionIDs(t *testing.T) {
	const notAnID = "is not an ARM resource id, expected /subscriptions/{id}/resourceGroups/{group}/providers/Microsoft.KeyVault/managedHSMs/{name}/privateEndpointConnections/{name}"
	const group, hsm, name = "resource group", "managed HSM name", "connection name"
	tests := []struct {
		name, id string
		want     string // in the error
	}{
		{"empty", "", notAnID},
		{"a word", "sample-pec", notAnID},
		{"only slashes", "//////////", notAnID},
		{"a URL", "https://management.azure.com" + connection, notAnID},
		{"a host before the path", "//evil.example" + connection, notAnID},
		{"no leading slash", connection[1:], notAnID},
		{"trailing slash", connection + "/", notAnID},
		{"a double slash", swap("/providers", "//providers"), notAnID},
		{"an empty segment at the end of two", connection + "//", "resource type is"},
		{"white space before", " " + connection, notAnID},
		{"a quoted id", `"` + connection + `"`, notAnID},
		{"backslashes", strings.ReplaceAll(connection, "/", `\`), notAnID},
		{"slashes encoded", strings.ReplaceAll(connection, "/", "%2F"), notAnID},
		{"another word for subscriptions", swap("subscriptions", "subscription"), notAnID},
		{"another word for resourceGroups", swap("resourceGroups", "groups"), notAnID},
		{"long s in subscriptions", swap("subscriptions", "ſubscriptions"), notAnID},
		{"a management group", "/providers/Microsoft.Management/managementGroups/mg" + connection, notAnID},

		{"a pool", pool, "resource type is Microsoft.KeyVault/managedHSMs, expected Microsoft.KeyVault/managedHSMs/privateEndpointConnections"},
		{"a private endpoint", endpoint, "resource type is Microsoft.Network/privateEndpoints, expected"},
		{"a vault's connection", swap("managedHSMs", "vaults"), "resource type is Microsoft.KeyVault/vaults/privateEndpointConnections, expected"},
		{"another provider", swap("Microsoft.KeyVault", "Microsoft.Storage"), "resource type is Microsoft.Storage/"},
		{"Kelvin sign in the provider", swap("KeyVault", "\u212AeyVault"), `resource type is Microsoft.\u212aeyVault/`},
		{"full-width letters in the provider", swap("KeyVault", "ＫｅｙVault"), "expected Microsoft.KeyVault"},
		{"a child below the connection", connection + "/locks/x", "resource type is"},
		{"an extension below the connection", connection + "/providers/Microsoft.Authorization/locks/x", "resource type is"},
		{"the connection as an extension", swap("/providers/", "/providers/Microsoft.Compute/virtualMachines/vm/providers/"), "resource type is Microsoft.Compute/virtualMachines/providers/"},
		{"climbing at the end", connection + "/..", notAnID},
		{"climbing two up", connection + "/../..", "resource type is"},

		{"no subscription", swap("00000000-0000-0000-0000-000000000000", ""), `subscription id "" is not a GUID`},
		{"a subscription's name", swap("00000000-0000-0000-0000-000000000000", "production"), `subscription id "production" is not a GUID`},
		{"a subscription that climbs", swap("00000000-0000-0000-0000-000000000000", ".."), "is not a GUID"},
		{"a GUID in braces", swap("00000000-0000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}"), "is not a GUID"},
		{"a GUID with full-width digits", swap("00000000-", "０0000000-"), "is not a GUID"},
		{"a GUID and a line end", swap("000000000000/", "000000000000\n/"), `\n" is not a GUID`},

		{"no group", swap("sample-group", ""), group},
		{"a group that climbs", swap("sample-group", ".."), group + ` ".." is not 1 to 90`},
		{"a group ending in a dot", swap("sample-group", "g."), "not ending in '.'"},
		{"a group with a space", swap("sample-group", "sample group"), group},
		{"a group with an encoded slash", swap("sample-group", "a%2Fb"), group},
		{"a group with a zero-width joiner", swap("sample-group", "a\u200db"), group},
		{"a group with a right-to-left override", swap("sample-group", "a\u202eb"), `"a\u202eb"`},
		{"a group with broken UTF-8", swap("sample-group", "a\xffb"), group},
		{"a group of 91 characters", swap("sample-group", strings.Repeat("é", 91)), "is not 1 to 90 letters"},

		{"no pool name", swap("sample-mhsm", ""), hsm},
		{"a short pool name", swap("sample-mhsm", "ab"), hsm + ` "ab" is not 3 to 24`},
		{"a long pool name", swap("sample-mhsm", strings.Repeat("a", 25)), "is not 3 to 24"},
		{"a pool that climbs", swap("sample-mhsm", ".."), hsm},
		{"a pool that climbs, encoded", swap("sample-mhsm", "%2e%2e"), hsm},
		{"a pool with a dot", swap("sample-mhsm", "sample.mhsm"), hsm},
		{"full-width letters in the pool", swap("sample-mhsm", "ｓample"), hsm},
		{"Kelvin sign in the pool", swap("sample-mhsm", "\u212Aeys"), hsm},

		{"no connection name", pool + "/privateEndpointConnections/", name + ` "" is not 1 to 128`},
		{"a connection of one dot", swap("sample-pec", "."), name},
		{"a connection that climbs", swap("sample-pec", ".."), name + ` ".." is not`},
		{"a connection that climbs, encoded", swap("sample-pec", "%2e%2e"), name},
		{"a connection that climbs, encoded in capitals", swap("sample-pec", "%2E%2E"), name},
		{"a connection that climbs, encoded twice", swap("sample-pec", "%252e%252e"), name},
		{"a connection with an encoded slash", swap("sample-pec", "a%2F.."), name},
		{"a connection with a backslash", swap("sample-pec", `..\x`), name},
		{"a connection beginning with a dash", swap("sample-pec", "-pec"), "beginning with a letter, digit or '_'"},
		{"a query", connection + "?api-version=2099-01-01", name},
		{"a fragment", connection + "#x", name},
		{"matrix parameters", connection + ";x=1", name},
		{"white space after", connection + " ", name},
		{"a line end after", connection + "\n", `"sample-pec\n" is not`},
		{"a header behind a line end", connection + "\r\nX-Evil: 1", name},
		{"a NUL", swap("sample-pec", "pec\x00"), name},
		{"an escape sequence", swap("sample-pec", "\x1b[31mred"), `"\x1b[31mred"`},
		{"letters beyond ASCII", swap("sample-pec", "pés"), name},
		{"two ids in one", connection + "," + connection, "resource type is"},
		{"a connection name of 129", swap("sample-pec", strings.Repeat("c", 129)), "is not 1 to 128"},
		{"a very long id", swap("sample-pec", strings.Repeat("c", 1<<20)), "is not 1 to 128"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := ParseConnectionID(tt.id)
			if err == nil {
				t.Fatalf("%q is accepted as %+v", tt.id, id)
			}
			if id != (ConnectionID{}) {
				t.Errorf("an error comes with %+v, want nothing beside it", id)
			}
			checkError(t, err, tt.want)
		})
	}
}

// checkError asks of every error what its reader needs: the key words, one short line of it, nothing that a terminal obeys.
func checkError(t *testing.T, err error, want string) {
	t.Helper()
	if !strings.Contains(err.Error(), want) {
		t.Errorf("the error does not say %q:\n%v", want, err)
	}
	if len(err.Error()) > 1000 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
	if strings.ContainsFunc(err.Error(), func(r rune) bool { return r != '\n' && r < ' ' || r == '\u202e' }) {
		t.Errorf("the error repeats control characters of the input: %q", err)
	}
}

func TestOtherIDs(t *testing.T) {
	if got := must(t, ParsePoolID, strings.ToLower(pool)).String(); got != pool {
		t.Errorf("pool %s, want %s", got, pool)
	}
	if got := must(t, ParseEndpointID, strings.ToLower(endpoint)).String(); got != endpoint {
		t.Errorf("endpoint %s, want %s", got, endpoint)
	}
	for id, want := range map[string]string{
		connection:                              "resource type is Microsoft.KeyVault/managedHSMs/privateEndpointConnections, expected Microsoft.KeyVault/managedHSMs",
		strings.Replace(pool, "HSMs", "HSM", 1): "expected Microsoft.KeyVault/managedHSMs",
		pool + "/":                              "is not an ARM resource id",
		strings.Replace(pool, "sample-m", "_", 1): "managed HSM name",
	} {
		if got, err := ParsePoolID(id); err == nil {
			t.Errorf("%s is accepted as the pool %v", id, got)
		} else {
			checkError(t, err, want)
		}
	}
	for id, want := range map[string]string{
		pool: "expected Microsoft.Network/privateEndpoints",
		strings.Replace(endpoint, "sample-pe", "-pe", 1):                     `private endpoint name "-pe" is not 1 to 80`,
		strings.Replace(endpoint, "sample-pe", strings.Repeat("e", 81), 1):   "is not 1 to 80",
		strings.Replace(endpoint, "privateEndpoints", "networkInterface", 1): "resource type is Microsoft.Network/networkInterface",
	} {
		if got, err := ParseEndpointID(id); err == nil {
			t.Errorf("%s is accepted as the private endpoint %v", id, got)
		} else {
			checkError(t, err, want)
		}
	}
}

func TestSpellingDoesNotMatter(t *testing.T) {
	lower, upper := strings.ToLower(connection), strings.ToUpper(connection)
	if a, b := must(t, ParseConnectionID, lower).String(), must(t, ParseConnectionID, upper).String(); !SameID(a, b) {
		t.Errorf("one connection, two keys: %s and %s", a, b)
	}
	if a, b := must(t, ParseConnectionID, lower).Pool.String(), must(t, ParsePoolID, strings.ToUpper(pool)).String(); !SameID(a, b) {
		t.Errorf("one pool, two keys: %s and %s", a, b)
	}
	e := must(t, ParseEndpointID, endpoint)
	if !SameID(e.String(), must(t, ParseEndpointID, strings.ToUpper(endpoint)).String()) {
		t.Error("an endpoint does not equal itself in upper case")
	}
	kelvin := must(t, ParseEndpointID, strings.Replace(endpoint, "sample-group", "\u212Av", 1))
	if SameID(kelvin.String(), must(t, ParseEndpointID, strings.Replace(endpoint, "sample-group", "kv", 1)).String()) {
		t.Error("a group named with the Kelvin sign equals one named with a k")
	}
	if SameID(e.String(), must(t, ParseEndpointID, endpoint+"2").String()) {
		t.Error("sample-pe equals sample-pe2")
	}
}
