package deletion

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listedJSON is a connection as it stands in a list.
func listedJSON(id, status, endpoint, state string) string {
	return fmt.Sprintf(`{"id":%q,"properties":{"privateEndpoint":{"id":%q},"privateLinkServiceConnectionState":{"status":%q},"provisioningState":%q}}`, id, endpoint, status, state)
}

func page(next string, items ...string) goldenAnswer {
	if next != "" {
		next = `,"nextLink":"` + next + `"`
	}
	return content(200, `{"value":[`+strings.Join(items, ",")+`]`+next+`}`)
}

func poolJSON(id string, connections ...string) string {
	if len(connections) == 0 {
		return fmt.Sprintf(`{"id":%q,"properties":{"publicNetworkAccess":"Enabled"}}`, id)
	}
	return fmt.Sprintf(`{"id":%q,"properties":{"privateEndpointConnections":[%s]}}`, id, strings.Join(connections, ","))
}

const (
	version   = "api-version=2021-10-01"
	askPools  = "GET " + subscription + "/providers/Microsoft.KeyVault/managedHSMs?" + version
	askGroup  = "GET " + group + "/providers/Microsoft.KeyVault/managedHSMs?" + version
	askPool   = "GET " + pool + "?" + version
	askInPool = "GET " + pool + "/privateEndpointConnections?" + version
)

// TestSearch looks for the connections of an endpoint. {arm} in a link stands for ARM's own address.
func TestSearch(t *testing.T) {
	other := strings.Replace(pool, "sample-mhsm", "other-mhsm", 1)
	inOther := other + "/privateEndpointConnections/a"
	stranger := strings.Replace(endpoint, "sample-pe", "other-pe", 1)
	ours, theirs := listedJSON(connection, "Disconnected", strings.ToUpper(endpoint), "Succeeded"), listedJSON(pool+"/privateEndpointConnections/b", "Approved", stranger, "Succeeded")
	for _, tt := range []struct {
		name    string
		scopes  []string
		answers []goldenAnswer
		asked   []string
		want    []string // ids of what is found
		kind    Kind     // Present unless it says otherwise
		says    string
	}{
		{name: "a pool, two pages", scopes: []string{pool}, answers: []goldenAnswer{page("{arm}"+pool+"/privateEndpointConnections?$skiptoken=x&api-version=2024-11-01", theirs), page("", ours)},
			asked: []string{askInPool, "GET " + pool + "/privateEndpointConnections?%24skiptoken=x&" + version}, want: []string{connection}},
		{name: "a subscription, whose pools carry their connections", scopes: []string{subscription}, answers: []goldenAnswer{
			page("{arm}"+subscription+"/providers/Microsoft.KeyVault/managedHSMs?$skiptoken=y", poolJSON(pool, theirs, ours)), page("", poolJSON(other, listedJSON(inOther, "Rejected", endpoint, "Succeeded")))},
			asked: []string{askPools, "GET " + subscription + "/providers/Microsoft.KeyVault/managedHSMs?%24skiptoken=y&" + version}, want: []string{inOther, connection}},
		{name: "a subscription, whose list has a pool without any", scopes: []string{subscription}, answers: []goldenAnswer{page("", poolJSON(pool)), page("", ours)},
			asked: []string{askPools, askInPool}, want: []string{connection}},
		{name: "a resource group", scopes: []string{group}, answers: []goldenAnswer{page("", poolJSON(pool, ours))}, asked: []string{askGroup}, want: []string{connection}},
		{name: "scopes that overlap", scopes: []string{subscription, pool}, answers: []goldenAnswer{page("", poolJSON(pool, ours)), page("", ours)}, asked: []string{askPools, askInPool}, want: []string{connection}},
		{name: "nothing", scopes: []string{subscription}, answers: []goldenAnswer{page("")}, asked: []string{askPools}},
		{name: "a pool that is not there, and one that is", scopes: []string{pool, subscription}, answers: []goldenAnswer{refused(404, "ResourceNotFound"), page("", poolJSON(pool, ours))},
			asked: []string{askInPool, askPools}, want: []string{connection}},
		{name: "throttled on the second page", scopes: []string{pool}, answers: []goldenAnswer{page("{arm}"+pool+"/privateEndpointConnections?x=1", ours), refused(429, "TooManyRequests")},
			asked: []string{askInPool, "GET " + pool + "/privateEndpointConnections?" + version + "&x=1"}, kind: Throttled},
		{name: "denied in the second scope", scopes: []string{pool, subscription}, answers: []goldenAnswer{page("", ours), refused(403, "AuthorizationFailed")}, asked: []string{askInPool, askPools}, kind: Denied},
		{name: "no such subscription", scopes: []string{subscription}, answers: []goldenAnswer{refused(404, "SubscriptionNotFound")}, asked: []string{askPools}, kind: Rejected},
		{name: "a page of HTML", scopes: []string{pool}, answers: []goldenAnswer{content(200, "<html>")}, asked: []string{askInPool}, kind: Unavailable, says: "cannot be read"},
		{name: "a next link to a stranger", scopes: []string{pool}, answers: []goldenAnswer{page("https://stranger.example/next", ours)}, asked: []string{askInPool}, kind: Untrusted, says: "stranger.example"},
		{name: "a connection of another pool", scopes: []string{pool}, answers: []goldenAnswer{page("", listedJSON(inOther, "Rejected", endpoint, ""))}, asked: []string{askInPool}, kind: Rejected, says: "as a connection of"},
		{name: "a name that cannot be", scopes: []string{pool}, answers: []goldenAnswer{page("", listedJSON(pool+"/privateEndpointConnections/..", "Rejected", endpoint, ""))}, asked: []string{askInPool}, kind: Rejected, says: "cannot name"},
		{name: "a connection without an id", scopes: []string{pool}, answers: []goldenAnswer{page("", `{"properties":{}}`)}, asked: []string{askInPool}, kind: Rejected, says: "without an id"},
		{name: "a pool of another subscription", scopes: []string{group}, answers: []goldenAnswer{page("", poolJSON(strings.Replace(pool, "sample-group", "theirs", 1), ours))}, asked: []string{askGroup}, kind: Rejected, says: "is not in"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := serve(t, tt.answers...)
			c, _ := a.client()
			var scopes []Scope
			for _, id := range tt.scopes {
				scopes = append(scopes, must(t, ParseScope, id))
			}
			got, err := c.Search(t.Context(), scopes, func(c Connection) bool { return SameID(c.Endpoint, endpoint) })
			if err != nil {
				t.Fatal(err)
			}
			if tt.kind == "" {
				tt.kind = Present
			}
			var ids []string
			for _, found := range got.Listed {
				ids = append(ids, found.ID.String())
			}
			if diff := cmp.Diff(tt.want, ids); diff != "" || got.Kind != tt.kind || !strings.Contains(got.Message, tt.says) {
				t.Errorf("%s %s: %q, want %s; found (-want +got):\n%s", got.Kind, got.Code, got.Message, tt.kind, diff)
			}
			if got.Sent != len(tt.asked) {
				t.Errorf("says that it sent %d questions, want %d", got.Sent, len(tt.asked))
			}
			a.expect(tt.asked...)
		})
	}
}

// TestReadPool asks for a pool, and for its connections only where it cannot be reached without them.
func TestReadPool(t *testing.T) {
	access := func(word string) goldenAnswer {
		return content(200, `{"id":"`+pool+`","properties":{"publicNetworkAccess":"`+word+`"}}`)
	}
	self := listedJSON(connection, "Approved", endpoint, "Succeeded")
	another := func(status, state string) string {
		return listedJSON(pool+"/privateEndpointConnections/b", status, endpoint, state)
	}
	for _, tt := range []struct {
		name     string
		answers  []goldenAnswer
		asked    []string
		kind     Kind
		lifeline bool
	}{
		{name: "public", answers: []goldenAnswer{access("Enabled")}, asked: []string{askPool}, kind: Present},
		{name: "it does not say", answers: []goldenAnswer{content(200, `{}`)}, asked: []string{askPool}, kind: Present},
		{name: "closed, the only one", answers: []goldenAnswer{access("Disabled"), page("", self)}, asked: []string{askPool, askInPool}, kind: Present, lifeline: true},
		{name: "closed, another one is Approved", answers: []goldenAnswer{access("disabled"), page("", self, another("Approved", "Succeeded"))}, asked: []string{askPool, askInPool}, kind: Present},
		{name: "closed, the other one goes", answers: []goldenAnswer{access("Disabled"), page("", self, another("Approved", "Deleting"))}, asked: []string{askPool, askInPool}, kind: Present, lifeline: true},
		{name: "closed, the other one is Rejected", answers: []goldenAnswer{access("Disabled"), page("", self, another("Rejected", "Succeeded"))}, asked: []string{askPool, askInPool}, kind: Present, lifeline: true},
		{name: "closed, listed in other letters", answers: []goldenAnswer{access("Disabled"), page("", strings.Replace(self, "sample-pec", "SAMPLE-pec", 1))}, asked: []string{askPool, askInPool}, kind: Present, lifeline: true},
		{name: "closed, and the list is not to be had", answers: []goldenAnswer{access("Disabled"), refused(503, "ServerBusy")}, asked: []string{askPool, askInPool}, kind: Unavailable},
		{name: "not there", answers: []goldenAnswer{refused(404, "ResourceNotFound")}, asked: []string{askPool}, kind: Absent},
		{name: "not there, as 204", answers: []goldenAnswer{status(204)}, asked: []string{askPool}, kind: Absent},
		{name: "denied", answers: []goldenAnswer{refused(403, "AuthorizationFailed")}, asked: []string{askPool}, kind: Denied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := serve(t, tt.answers...)
			c, _ := a.client()
			id := must(t, ParseConnectionID, connection)
			got, err := c.ReadPool(t.Context(), id.Pool)
			if err != nil {
				t.Fatal(err)
			}
			if lifeline := got.Pool != nil && got.Pool.Lifeline(id); got.Kind != tt.kind || lifeline != tt.lifeline {
				t.Errorf("%s %s: %q, the last way in: %t; want %s, %t", got.Kind, got.Code, got.Message, lifeline, tt.kind, tt.lifeline)
			}
			a.expect(tt.asked...)
		})
	}
}
