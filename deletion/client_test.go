package deletion

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDeleteOnTheWire(t *testing.T) {
	tests := []struct{ name, id, want string }{
		{"the documented URL", connection, sentDelete},
		{"rebuilt in the documented spelling", strings.NewReplacer("managedHSMs", "managedhsms", "resourceGroups", "RESOURCEGROUPS").Replace(connection), sentDelete},
		{"a group beyond ASCII", swap("sample-group", "größe(2)"), strings.Replace(sentDelete, "sample-group", "gr%C3%B6%C3%9Fe%282%29", 1)},
		{"a connection with dots", swap("sample-pec", "pe1..0a1b"), strings.Replace(sentDelete, "sample-pec", "pe1..0a1b", 1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := serve(t, status(204))
			c, _ := a.client()
			out, err := c.Start(t.Context(), must(t, ParseConnectionID, tt.id))
			if err != nil || out.Kind != Absent {
				t.Errorf("outcome %+v, %v; want absent", out, err)
			}
			a.expect(tt.want)
		})
	}
}

func TestStart(t *testing.T) {
	const other = "https://evil.example/op"
	tests := []struct {
		name   string
		answer goldenAnswer
		want   Outcome
	}{
		{"200", content(200, sampleResponse), Outcome{Kind: Deleted}},
		{"204", status(204), Outcome{Kind: Absent}},
		{"202 with a Location", status(202, "Location: {arm}/op?z=1&a=2", "Retry-After: 60"), Outcome{Kind: Accepted, Operation: Operation{"{arm}/op?z=1&a=2", Location}, RetryAfter: 60e9}},
		{"202 with a relative Location", status(202, "Location: /op?z=1"), Outcome{Kind: Accepted, Operation: Operation{"{arm}/op?z=1", Location}}},
		{"202 with both kinds", status(202, "Location: "+other, "Azure-AsyncOperation: {arm}/a"), Outcome{Kind: Accepted, Operation: Operation{"{arm}/a", AsyncOperation}}},
		{"202 without a URL", status(202), Outcome{Kind: Accepted, Operation: Operation{Protocol: ReadBack}}},
		{"another success", status(201), Outcome{Kind: Accepted, Operation: Operation{Protocol: ReadBack}}},
		{"202 with a Location elsewhere", status(202, "Location: "+other), Outcome{Kind: Untrusted, Code: CodeUntrusted}},
		{"202 with a Location over http", status(202, "Location: http://management.azure.com/op"), Outcome{Kind: Untrusted, Code: CodeUntrusted}},
		{"202 with a Location that is no URL", status(202, "Location: https://%zz"), Outcome{Kind: Untrusted, Code: CodeUntrusted}},
		{"a lock", refused(409, "ScopeLocked"), Outcome{Kind: Rejected, Code: "ScopeLocked"}},
		{"a pool that is not there", refused(404, "ParentResourceNotFound"), Outcome{Kind: Absent, Code: "ParentResourceNotFound"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := serve(t, tt.answer)
			c, _ := a.client()
			got, err := c.Start(t.Context(), must(t, ParseConnectionID, connection))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.HTTPStatus = tt.answer.status
			a.compare(tt.want, got)
			a.expect(sentDelete)
		})
	}
}

// compare leaves out messages and provisioning states, which have tests of their own.
func (a *armServer) compare(want, got Outcome) {
	a.t.Helper()
	want.Operation.URL = strings.ReplaceAll(want.Operation.URL, "{arm}", a.URL)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Outcome{}, "Message", "Sent"), cmpopts.IgnoreFields(Connection{}, "State")); diff != "" {
		a.t.Errorf("outcome (-want +got):\n%s\nmessage: %s", diff, got.Message)
	}
}

func TestPoll(t *testing.T) {
	loc, async := Operation{"{arm}/op", Location}, Operation{"{arm}/op", AsyncOperation}
	gone, there := refused(404, "ResourceNotFound"), content(200, sampleResponse)
	tests := []struct {
		name     string
		op       Operation
		answer   goldenAnswer
		readBack []goldenAnswer // what the connection's own URL answers, when it is to be asked at all
		want     Outcome
	}{
		{"still running", loc, status(202, "Retry-After: 7"), nil, Outcome{Kind: Running, Operation: loc, RetryAfter: 7e9}},
		{"still running, at a new URL", loc, status(202, "Location: {arm}/next?b=1&a=2"), nil, Outcome{Kind: Running, Operation: Operation{"{arm}/next?b=1&a=2", Location}}},
		{"still running, at a relative URL", loc, status(202, "Location: /next"), nil, Outcome{Kind: Running, Operation: Operation{"{arm}/next", Location}}},
		{"still running, at another host", loc, status(202, "Location: https://evil.example/next"), nil, Outcome{Kind: Untrusted, Code: CodeUntrusted}},
		{"ended, 204", loc, status(204), nil, Outcome{Kind: Deleted}},
		{"ended, 200", loc, status(200), nil, Outcome{Kind: Deleted}},
		{"200 shows the connection, which is gone", loc, there, []goldenAnswer{gone}, Outcome{Kind: Deleted}},
		{"200 shows the connection, still there", loc, there, []goldenAnswer{there}, Outcome{Kind: Running, Operation: loc}},
		{"200 shows the connection, and asks to wait", loc, goldenAnswer{status: 200, headers: []string{"Retry-After: 9"}, body: sampleResponse}, []goldenAnswer{there}, Outcome{Kind: Running, Operation: loc, RetryAfter: 9e9}},
		{"200 shows the connection, reading is throttled", loc, there, []goldenAnswer{status(429, "Retry-After: 5")}, Outcome{Kind: Throttled, RetryAfter: 5e9, Code: "TooManyRequests"}},
		{"200 shows the connection, reading is denied", loc, there, []goldenAnswer{refused(403, "AuthorizationFailed")}, Outcome{Kind: Denied, Code: "AuthorizationFailed"}},
		{"expired, the connection is gone", loc, refused(404, "OperationNotFound"), []goldenAnswer{gone}, Outcome{Kind: Deleted}},
		{"expired, the connection is there", loc, status(404), []goldenAnswer{there}, Outcome{Kind: Expired}},
		{"expired by 410, the connection is there", loc, status(410), []goldenAnswer{there}, Outcome{Kind: Expired}},
		{"expired, the subscription is not there", loc, status(404), []goldenAnswer{refused(404, "SubscriptionNotFound")}, Outcome{Kind: Rejected, Code: "SubscriptionNotFound"}},
		{"expired, reading fails", loc, status(404), []goldenAnswer{status(503)}, Outcome{Kind: Unavailable, Code: "ServiceUnavailable"}},
		{"failed", loc, refused(400, "HsmBusy"), nil, Outcome{Kind: Failed, Code: "HsmBusy"}},
		{"a lock set meanwhile", loc, refused(409, "ScopeLocked"), nil, Outcome{Kind: Rejected, Code: "ScopeLocked"}},

		{"status unfinished", async, content(200, `{"status":"Deleting"}`), nil, Outcome{Kind: Running, Operation: async}},
		{"status Succeeded", async, content(200, `{"status":"Succeeded"}`), nil, Outcome{Kind: Deleted}},
		{"status Failed", async, content(200, `{"status":"Failed","error":{"code":"HsmBusy"}}`), nil, Outcome{Kind: Failed, Code: "HsmBusy"}},
		{"no status, the connection is gone", async, content(200, `{}`), []goldenAnswer{gone}, Outcome{Kind: Deleted}},
		{"no status, the connection is there", async, content(200, `{}`), []goldenAnswer{there}, Outcome{Kind: Running, Operation: async}},
		{"the record is gone, the connection is there", async, status(404), []goldenAnswer{there}, Outcome{Kind: Expired}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := serve(t, append([]goldenAnswer{tt.answer}, tt.readBack...)...)
			c, _ := a.client()
			op := Operation{strings.ReplaceAll(tt.op.URL, "{arm}", a.URL), tt.op.Protocol}
			got, err := c.Poll(t.Context(), must(t, ParseConnectionID, connection), op)
			if err != nil {
				t.Fatal(err)
			}
			asked := []string{"GET /op"}
			tt.want.HTTPStatus = tt.answer.status
			for _, r := range tt.readBack {
				asked = append(asked, sentRead)
				tt.want.HTTPStatus = r.status
				tt.want.Verified = tt.want.Kind == Deleted
			}
			a.compare(tt.want, got)
			a.expect(asked...)
		})
	}
}

// TestPollWithoutURL: an operation that has none is told by the connection alone.
func TestPollWithoutURL(t *testing.T) {
	for _, tt := range []struct {
		answer goldenAnswer
		want   Outcome
	}{
		{refused(404, "ResourceNotFound"), Outcome{Kind: Deleted}},
		{refused(404, "ResourceGroupNotFound"), Outcome{Kind: Deleted}},
		{content(200, sampleResponse), Outcome{Kind: Expired}},
		{refused(404, "SubscriptionNotFound"), Outcome{Kind: Rejected, Code: "SubscriptionNotFound"}},
		{status(500), Outcome{Kind: Unavailable, Code: "InternalServerError"}},
	} {
		t.Run(tt.answer.String(), func(t *testing.T) {
			a := serve(t, tt.answer)
			c, _ := a.client()
			got, err := c.Poll(t.Context(), must(t, ParseConnectionID, connection), Operation{Protocol: ReadBack})
			if err != nil {
				t.Fatal(err)
			}
			tt.want.HTTPStatus = tt.answer.status
			tt.want.Verified = tt.want.Kind == Deleted
			a.compare(tt.want, got)
			a.expect(sentRead)
		})
	}
}

func TestOperationURLIsAskedToTheByte(t *testing.T) {
	for _, target := range []string{
		connection + "?api-version=2019-01-01&kv-operation=eyJjb2RlIjoicHJpdmF0ZSJ9",
		"/op?z=1&a=2&m=3",
		"/op?t=2026-01-31T08%3a00%3A00.0000000Z&c=a%2Fb%2fc+d%20e",
		"/op?empty=&bare&a=1&a=2&=x",
		"/op?p=%7e~!*'()",
		"/op?a=1;b=2",
		"/op?u=größe",
		"/op?",
		"/a%2fb/%7E/c",
		"//double//slash/",
		"/a/../b/./c",
		"/op;v=1,2:3@4",
	} {
		a := serve(t, status(204))
		c, _ := a.client()
		got, err := c.Poll(t.Context(), must(t, ParseConnectionID, connection), Operation{a.URL + target, Location})
		if err != nil || got.Kind != Deleted {
			t.Errorf("%s: %+v, %v; want deleted", target, got, err)
		}
		a.expect("GET " + target)
	}
}

func TestRead(t *testing.T) {
	const full = `{"etag":"W/\"1\"","properties":{"privateEndpoint":{"id":"` + endpoint + `"},"privateLinkServiceConnectionState":{"status":"Approved"},"provisioningState":"Succeeded"}}`
	for _, tt := range []struct {
		name   string
		answer goldenAnswer
		want   Outcome
	}{
		{"a connection", content(200, full), Outcome{Kind: Present, Found: Connection{Status: "Approved", Endpoint: endpoint, State: "Succeeded"}}},
		{"a state that is not documented", content(200, strings.Replace(full, "Approved", "Dreaming", 1)), Outcome{Kind: Present, Found: Connection{Status: "Dreaming", Endpoint: endpoint, State: "Succeeded"}}},
		{"the sample response, which tells little", content(200, sampleResponse), Outcome{Kind: Present}},
		{"nothing in it", content(200, `{}`), Outcome{Kind: Present}},
		{"not there", refused(404, "ResourceNotFound"), Outcome{Kind: Absent, Code: "ResourceNotFound"}},
		{"no such subscription", refused(404, "SubscriptionNotFound"), Outcome{Kind: Rejected, Code: "SubscriptionNotFound"}},
		{"denied", refused(403, "AuthorizationFailed"), Outcome{Kind: Denied, Code: "AuthorizationFailed"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := serve(t, tt.answer)
			c, _ := a.client()
			got, err := c.Read(t.Context(), must(t, ParseConnectionID, connection))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.HTTPStatus = tt.answer.status
			a.compare(tt.want, got)
			a.expect(sentRead)
		})
	}

	a := serve(t, content(200, "<html>welcome</html>"))
	c, _ := a.client()
	got, err := c.Read(t.Context(), must(t, ParseConnectionID, connection))
	if err != nil || got.Kind != Unavailable || !strings.Contains(got.Message, "cannot be read") {
		t.Errorf("a page instead of a connection: %+v, %v; want unavailable", got, err)
	}
}

func TestOneTokenForMany(t *testing.T) {
	a := serve(t, status(202), status(429), status(204))
	c, cred := a.client()
	for range 3 {
		if _, err := c.Start(t.Context(), must(t, ParseConnectionID, connection)); err != nil {
			t.Fatal(err)
		}
	}
	a.expect(sentDelete, sentDelete, sentDelete)
	if n := cred.asked.Load(); n != 1 {
		t.Errorf("%d tokens were fetched for three requests, want 1", n)
	}
}

func TestNoToken(t *testing.T) {
	for _, q := range questions {
		t.Run(q.name, func(t *testing.T) {
			a := serve(t)
			c, cred := a.client()
			cred.err = errors.New("the identity endpoint is away")
			got, err := q.ask(t.Context(), c, must(t, ParseConnectionID, connection), a.URL)
			if err != nil {
				t.Fatal(err)
			}
			if got.Kind != Unavailable || got.Code != "NoToken" || !strings.Contains(got.Message, "the identity endpoint is away") {
				t.Errorf("outcome %+v; want unavailable, NoToken, and the credential's words", got)
			}
			a.expect()
		})
	}
}

func TestNewClientRefusesEndpoints(t *testing.T) {
	for _, endpoint := range []string{"", "management.azure.com", "http://management.azure.com", "https://", "https:///x", "ftp://x", "https://%zz"} {
		_, err := NewClient(Options{Credential: &credential{}, Transport: http.DefaultTransport, Cloud: cloud.Configuration{
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: endpoint, Audience: "https://audience.example"}},
		}})
		if err == nil {
			t.Errorf("endpoint %q is accepted", endpoint)
			continue
		}
		checkError(t, err, "is not an https URL")
	}
}
