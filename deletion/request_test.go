package deletion

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// object writes a request for the sample connection with these further fields.
func object(fields string) string { return `{"connectionId":"` + connection + `",` + fields + `}` }

func TestRequests(t *testing.T) {
	sample := ConnectionID{Pool: PoolID{"00000000-0000-0000-0000-000000000000", "sample-group", "sample-mhsm"}, Name: "sample-pec"}
	tests := []struct {
		name, body string
		want       Request
	}{
		{"a connection and nothing else", `{"connectionId":"` + connection + `"}`, Request{Connection: sample}},
		{"white space and a line end around it", "\r\n\t {\"connectionId\" : \"" + connection + "\"} \n", Request{Connection: sample}},
		{"an escaped slash", `{"connectionId":"` + strings.ReplaceAll(connection, "/", `\/`) + `"}`, Request{Connection: sample}},
		{
			"everything",
			object(`"requestId":"R-1","status":["Rejected","Disconnected"],"privateEndpointId":"` + endpoint + `","reason":"decommissioned",
				"requestedBy":"ann@example.com","ticket":{"system":"servicenow","id":"CHG7","url":"https://tickets.example/CHG7"},
				"notBefore":"2026-01-31T08:00:00Z","dryRun":true,"force":true`),
			Request{
				Connection: sample, RequestID: "R-1", Statuses: []LinkStatus{"Rejected", "Disconnected"},
				Endpoint: &EndpointID{"00000000-0000-0000-0000-000000000000", "sample-group", "sample-pe"},
				Reason:   "decommissioned", RequestedBy: "ann@example.com",
				Ticket:    &Ticket{System: "servicenow", ID: "CHG7", URL: "https://tickets.example/CHG7"},
				NotBefore: time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC), DryRun: true, Force: true,
			},
		},
		{"a time with an offset", object(`"notBefore":"2026-01-31T09:00:00.5+01:00"`), Request{Connection: sample, NotBefore: time.Date(2026, 1, 31, 8, 0, 0, 5e8, time.UTC)}},
		{"states in other spellings, and twice", object(`"status":["rejected","REJECTED","Pending"]`), Request{Connection: sample, Statuses: []LinkStatus{"Rejected", "Pending"}}},
		{"a request id of 128 characters beyond ASCII", object(`"requestId":"` + strings.Repeat("é", 128) + `"`), Request{Connection: sample, RequestID: strings.Repeat("é", 128)}},
		{"a request id with spaces and slashes", object(`"requestId":"CHG 7/pec 1"`), Request{Connection: sample, RequestID: "CHG 7/pec 1"}},
		{"a ticket with an id only", object(`"ticket":{"id":"7"}`), Request{Connection: sample, Ticket: &Ticket{ID: "7"}}},
		{"free text beyond ASCII", object(`"reason":"größer ✂ \u2702\n"`), Request{Connection: sample, Reason: "größer ✂ ✂\n"}},
		{"flags that say no", object(`"dryRun":false,"force":false`), Request{Connection: sample}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeRequest([]byte(tt.body))
			if err != nil {
				t.Fatalf("refused: %v", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHostileRequests(t *testing.T) {
	good := object(`"requestId":"R-1"`)
	tests := []struct {
		name, body string
		want       string // in the error
	}{
		{"nothing", ``, "not valid JSON at byte 0 of 0"},
		{"white space", " \n", "not valid JSON"},
		{"null", `null`, "connectionId: is missing"},
		{"a boolean", `true`, "expected a JSON object with connectionId, found a JSON boolean"},
		{"a number", `42`, "found a JSON number"},
		{"a string", `"` + connection + `"`, "found a JSON string"},
		{"an array", `[` + good + `]`, "found a JSON array"},
		{"an empty object", `{}`, "connectionId: is missing: name the private endpoint connection to delete"},
		{"plain text", `please delete ` + connection, "not valid JSON at byte 0"},
		{"XML", `<connectionId/>`, "not valid JSON at byte 0"},
		{"a byte order mark", "\uFEFF" + good, "byte order mark"},
		{"UTF-16", "{\x00}\x00", "is UTF-16"},
		{"a NUL before", "\x00" + good, "not valid JSON at byte 0"},
		{"a NUL after", good + "\x00", "after top-level value"},
		{"a second object", good + good, "after top-level value"},
		{"a word after", good + " x", "after top-level value"},
		{"a comma after", good + ",", "after top-level value"},
		{"cut off", good[:len(good)-1], "unexpected EOF"},
		{"cut off in a string", good[:len(good)-3], "unexpected EOF"},
		{"a trailing comma", object(`"dryRun":true,`), "not valid JSON"},
		{"a comment", "/* now */" + good, "not valid JSON at byte 0"},
		{"single quotes", `{'connectionId':'x'}`, "not valid JSON at byte 1"},
		{"a bare name", `{connectionId:"x"}`, "not valid JSON at byte 1"},
		{"NaN", object(`"dryRun":NaN`), "not valid JSON"},
		{"a control character in a string", "{\"requestId\":\"a\x01b\"}", "not valid JSON"},
		{"invalid UTF-8 in a value", "{\"requestId\":\"\xff\"}", "invalid UTF-8"},
		{"invalid UTF-8 in a name", "{\"\xff\":1}", "invalid UTF-8"},
		{"half a surrogate pair", `{"requestId":"\ud800"}`, "invalid surrogate pair"},
		{"arrays in arrays without end", object(`"reason":` + strings.Repeat("[", 100_000)), "exceeded max depth"},
		{"objects in objects without end", strings.Repeat(`{"ticket":`, 100_000), "exceeded max depth"},

		{"an unknown field", object(`"dry":true`), "dry: no such field"},
		{"an unknown field with a long value", object(`"dry":"` + strings.Repeat("x", 1<<20) + `"`), "dry: no such field"},
		{"an unknown field with a long name", object(`"` + strings.Repeat("x", 1<<20) + `":1`), "no such field"},
		{"an unknown field with control characters", object(`"\u001b[31m":1`), `\x1b[31m: no such field`},
		{"connectionID, misspelt", `{"connectionID":"` + connection + `"}`, "connectionID: no such field"},
		{"ConnectionId, misspelt", `{"ConnectionId":"` + connection + `"}`, "ConnectionId: no such field"},
		{"dryrun, misspelt", object(`"dryrun":true`), "dryrun: no such field"},
		{"Status, misspelt", object(`"Status":["Rejected"]`), "Status: no such field"},
		{"statuses, misspelt", object(`"statuses":["Rejected"]`), "statuses: no such field"},
		{"not_before, misspelt", object(`"not_before":"2026-01-31T08:00:00Z"`), "not_before: no such field"},
		{"an unknown field of the ticket", object(`"ticket":{"id":"7","number":7}`), "ticket.number: no such field"},
		{"a misspelt field of the ticket", object(`"ticket":{"ID":"7"}`), "ticket.ID: no such field"},
		{"connectionId twice", object(`"connectionId":"` + connection + `"`), "connectionId: is there twice"},
		{"dryRun twice", object(`"dryRun":true,"dryRun":false`), "dryRun: is there twice"},
		{"dryRun twice, once escaped", object(`"dryRun":true,"dry\u0052un":false`), "dryRun: is there twice"},
		{"an id twice in the ticket", object(`"ticket":{"id":"7","id":"8"}`), "ticket.id: is there twice"},

		{"connectionId, a number", `{"connectionId":42}`, "connectionId: a JSON number is not what belongs here"},
		{"connectionId, a huge number", `{"connectionId":1e999}`, "connectionId: a JSON number"},
		{"connectionId, a list", `{"connectionId":["` + connection + `"]}`, "connectionId: a JSON array"},
		{"connectionId, null", `{"connectionId":null}`, "connectionId: is missing"},
		{"connectionId, empty", `{"connectionId":""}`, "connectionId: is missing"},
		{"connectionId, a NUL", `{"connectionId":"\u0000"}`, `connectionId: "\x00" is not an ARM resource id`},
		{"connectionId, a pool", `{"connectionId":"` + pool + `"}`, "connectionId: resource type is Microsoft.KeyVault/managedHSMs, expected"},
		{"connectionId, climbing", `{"connectionId":"` + swap("sample-pec", "..") + `"}`, "connectionId: connection name"},
		{"connectionId, climbing by an escape", `{"connectionId":"` + swap("sample-pec", `\u002e\u002e`) + `"}`, "connectionId: connection name"},
		{"status, a string", object(`"status":"Rejected"`), "status: a JSON string is not what belongs here"},
		{"status, an object", object(`"status":{}`), "status: a JSON object"},
		{"status, empty", object(`"status":[]`), "status: names no state; leave it out to guard nothing"},
		{"status, unknown", object(`"status":["Rejected","Gone"]`), `status: "Gone" is not one of Approved, Pending, Rejected, Disconnected`},
		{"status, with a space", object(`"status":["Rejected "]`), `status: "Rejected " is not one of`},
		{"status, with a long s", object(`"status":["Di\u017fconnected"]`), "is not one of"},
		{"status, a number in it", object(`"status":["Rejected",1]`), "status.1: a JSON number"},
		{"status, null in it", object(`"status":[null]`), `status: "" is not one of`},
		{"privateEndpointId, a connection", object(`"privateEndpointId":"` + connection + `"`), "privateEndpointId: resource type is"},
		{"privateEndpointId, a word", object(`"privateEndpointId":"pe1"`), "privateEndpointId: \"pe1\" is not an ARM resource id"},
		{"privateEndpointId, a boolean", object(`"privateEndpointId":false`), "privateEndpointId: a JSON boolean"},
		{"requestId, empty", object(`"requestId":""`), "requestId: has 0 characters, expected 1 to 128"},
		{"requestId, long", object(`"requestId":"` + strings.Repeat("é", 129) + `"`), "requestId: has 129 characters"},
		{"requestId, a line end", object(`"requestId":"a\nb"`), "requestId: has control characters"},
		{"requestId, a NUL", object(`"requestId":"a\u0000"`), "requestId: has control characters"},
		{"requestId, a number", object(`"requestId":7`), "requestId: a JSON number"},
		{"reason, a number", object(`"reason":1`), "reason: a JSON number"},
		{"requestedBy, an object", object(`"requestedBy":{}`), "requestedBy: a JSON object"},
		{"ticket, a string", object(`"ticket":"CHG7"`), "ticket: a JSON string"},
		{"ticket id, a number", object(`"ticket":{"id":7}`), "ticket.id: a JSON number"},
		{"notBefore, a word", object(`"notBefore":"tomorrow"`), "notBefore: expected an RFC 3339 time such as 2026-01-31T08:00:00Z"},
		{"notBefore, empty", object(`"notBefore":""`), "notBefore: expected an RFC 3339 time"},
		{"notBefore, a date", object(`"notBefore":"2026-01-31"`), "notBefore: expected an RFC 3339 time"},
		{"notBefore, no zone", object(`"notBefore":"2026-01-31T08:00:00"`), "notBefore: expected an RFC 3339 time"},
		{"notBefore, no such day", object(`"notBefore":"2026-02-30T08:00:00Z"`), "notBefore: expected an RFC 3339 time"},
		{"notBefore, a number", object(`"notBefore":1767225600`), "notBefore: expected an RFC 3339 time"},
		{"dryRun, a string", object(`"dryRun":"true"`), "dryRun: a JSON string"},
		{"dryRun, a number", object(`"dryRun":1`), "dryRun: a JSON number"},
		{"force, a list", object(`"force":[]`), "force: a JSON array"},

		{"status, null", object(`"status":null`), "status: is null; leave it out to guard nothing"},
		{"privateEndpointId, null", object(`"privateEndpointId":null`), "privateEndpointId: is null"},
		{"privateEndpointId, empty", object(`"privateEndpointId":""`), `privateEndpointId: is ""`},
		{"privateEndpointId, empty among spaces", object(`"privateEndpointId" : "" `), `privateEndpointId: is ""`},
		{"dryRun, null", object(`"dryRun":null`), "dryRun: is null"},
		{"notBefore, null", object(`"notBefore": null`), "notBefore: is null"},

		{"a pool beside a connection", object(`"managedHsmId":"` + pool + `"`), "managedHsmId: cannot stand beside connectionId"},
		{"a pool with states, beside a connection", object(`"managedHsmId":"` + pool + `","status":["Rejected"]`), "managedHsmId: cannot stand beside connectionId"},
		{"a pool without states", `{"managedHsmId":"` + pool + `"}`, "status: is missing: managedHsmId selects the connections in these states"},
		{"a pool with no state", `{"managedHsmId":"` + pool + `","status":[]}`, "status: names no state"},
		{"a pool that is a connection", `{"managedHsmId":"` + connection + `","status":["Rejected"]}`, "managedHsmId: resource type is"},
		{"an endpoint beside a pool", `{"privateEndpointId":"` + endpoint + `","managedHsmId":"` + pool + `","status":["Rejected"]}`, "managedHsmId: cannot stand beside privateEndpointId"},
		{"a bad endpoint alone", `{"privateEndpointId":"pe1"}`, "privateEndpointId: "},
		{"two faults: the first", object(`"requestId":"","status":[]`), "requestId: has 0 characters"},
		{"two faults: the second", object(`"requestId":"","status":[]`), "status: names no state"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := DecodeRequest([]byte(tt.body))
			if err == nil {
				t.Fatalf("accepted as %+v", r)
			}
			checkError(t, err, tt.want)
		})
	}
}

// TestWhatSurvivesAFault: an event about a refused request still says whose it was.
func TestWhatSurvivesAFault(t *testing.T) {
	const ids = `"connectionId":"` + connection + `","requestId":"R-1","ticket":{"system":"snow","id":"CHG7"}`
	tests := []struct{ name, body string }{
		{"an unknown field behind", `{` + ids + `,"dry":true}`},
		{"an unknown field in front", `{"dry":true,` + ids + `}`},
		{"a wrong type behind", `{` + ids + `,"dryRun":"yes"}`},
		{"a bad time behind", `{` + ids + `,"notBefore":"tomorrow"}`},
		{"a state that is none, in front", `{"status":["Gone"],` + ids + `}`},
		{"a bad endpoint, in front", `{"privateEndpointId":"pe1",` + ids + `}`},
		{"a wrong type in front", `{"dryRun":"yes",` + ids + `}`},
		{"a bad time in front", `{"notBefore":"tomorrow",` + ids + `}`},
		{"a wrong type in a list in front", `{"status":[1],` + ids + `}`},
		{"a list for text in front", `{"reason":` + strings.Repeat("[", 10) + strings.Repeat("]", 10) + `,` + ids + `}`},
		{"a name twice", `{"dryRun":true,"dryRun":true,` + ids + `}`},
		{"invalid UTF-8 behind", `{` + ids + `,"reason":"` + "\xff" + `"}`},
		{"something after the object", `{` + ids + `} {}`},
		{"cut off", `{` + ids + `,"reason":"de`},
		{"two selectors", `{` + ids + `,"managedHsmId":"` + pool + `"}`},
	}
	want := Request{
		Connection: ConnectionID{Pool: PoolID{"00000000-0000-0000-0000-000000000000", "sample-group", "sample-mhsm"}, Name: "sample-pec"},
		RequestID:  "R-1", Ticket: &Ticket{System: "snow", ID: "CHG7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := DecodeRequest([]byte(tt.body))
			if err == nil {
				t.Fatalf("accepted as %+v", r)
			}
			got := Request{Connection: r.Connection, RequestID: r.RequestID, Ticket: r.Ticket}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("with the error %q came (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestRefusedFieldIsNotReported(t *testing.T) {
	r, err := DecodeRequest([]byte(`{"requestId":"R-1","connectionId":"` + pool + `"}`))
	if err == nil || r.Connection != (ConnectionID{}) || r.RequestID != "R-1" {
		t.Errorf("a pool as connectionId gives %+v, %v; want only the request id, and an error", r, err)
	}
	r, err = DecodeRequest([]byte(object(`"requestId":"` + strings.Repeat("x", 129) + `"`)))
	if err == nil || r.RequestID != "" || r.Connection.String() != connection {
		t.Errorf("a long requestId gives %+v, %v; want only the connection, and an error", r, err)
	}
}

func TestLooksLikeRequest(t *testing.T) {
	for data, want := range map[string]bool{
		object(`"dryRun":true`):         true,
		`{"CONNECTIONID":1}`:            true,
		`{"privateendpointid":null}`:    true,
		`{"managedHsmId":""}`:           true,
		`{"requestId":"x"}`:             true,
		`{"requestedBy":"x"}`:           true,
		`{"notbefore":"x"}`:             true,
		`{"dryRun":true,"dryRun":true}`: true,
		`{"other":1,"force":true}`:      true,
		``:                              false,
		`null`:                          false,
		`{}`:                            false,
		`"connectionId"`:                false,
		`["connectionId"]`:              false,
		`{"data":{"connectionId":"` + connection + `"}}`: false,
		`{"status":"Succeeded"}`:                         true,
		`{"resourceUri":"` + endpoint + `"}`:             false,
		`{"connectionId":`:                               false,
	} {
		if got := LooksLikeRequest([]byte(data)); got != want {
			t.Errorf("%s looks like a request: %t, want %t", data, got, want)
		}
	}
}
