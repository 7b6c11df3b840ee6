package deletion

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// arrival is when every answer of the golden table comes.
var arrival = time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)

const (
	operationURL   = "https://management.azure.com/op"
	sampleResponse = `{
  "id": "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/sample-group/providers/Microsoft.KeyVault/managedhsms/sample-vault/privateEndpointConnections/sample-pec",
  "name": "sample-pec",
  "type": "Microsoft.KeyVault/managedhsms/privateEndpointConnections",
  "properties": {
    "provisioningState": "Disconnected"
  }
}`
)

// A goldenAnswer is a status, headers as "Name: value", and a body; says stands for a body too long for a line.
type goldenAnswer struct {
	status  int
	headers []string
	body    string
	says    string
}

func (g goldenAnswer) answer() answer {
	h := http.Header{}
	for _, line := range g.headers {
		name, value, _ := strings.Cut(line, ": ")
		h.Set(name, value)
	}
	return answer{status: g.status, header: h, body: []byte(g.body), at: arrival}
}

func (g goldenAnswer) String() string {
	parts := append([]string{fmt.Sprint(g.status)}, g.headers...)
	if says := g.says; says != "" {
		parts = append(parts, says)
	} else if g.body != "" {
		parts = append(parts, g.body)
	}
	return strings.Join(parts, ", ")
}

func status(n int, headers ...string) goldenAnswer { return goldenAnswer{status: n, headers: headers} }

func content(n int, body string) goldenAnswer { return goldenAnswer{status: n, body: body} }

func refused(n int, code string) goldenAnswer {
	return goldenAnswer{status: n, body: `{"error":{"code":"` + code + `","message":"m"}}`, says: "CloudError " + code}
}

// TestClassify prints what each answer means to each question. The golden file is meant to be read.
func TestClassify(t *testing.T) {
	sections := []struct {
		title   string
		answers []goldenAnswer
	}{
		{"Successes", []goldenAnswer{
			status(200),
			{200, nil, sampleResponse, "the sample response"},
			content(200, `{"name":"sample-pec"}`),
			content(200, `{"name":"SAMPLE-PEC"}`),
			content(200, `{"id":"/x/privateEndpointConnections/Sample-Pec"}`),
			content(200, `{"id":"/x/privateEndpointConnections/my-sample-pec"}`),
			content(200, `{"name":"another"}`),
			content(200, `{"properties":{"provisioningState":"Deleting"}}`),
			content(200, `{"status":"InProgress"}`),
			content(200, `{"status":"Deleting"}`),
			content(200, `{"status":"Succeeded"}`),
			content(200, `{"status":"succeeded"}`),
			content(200, `{"status":"Failed","error":{"code":"HsmBusy","message":"m"}}`),
			content(200, `{"status":"Failed"}`),
			content(200, `{"status":"Canceled"}`),
			content(200, `{"status":"Cancelled"}`),
			content(200, `{"status":""}`),
			content(200, "<html>welcome</html>"),
			status(200, "Location: "+operationURL),
			status(201),
			status(202),
			status(202, "Location: "+operationURL),
			status(202, "Location: /op?kv-operation=e30"),
			status(202, "Azure-AsyncOperation: "+operationURL),
			status(202, "Operation-Location: "+operationURL),
			status(202, "Location: "+operationURL+"/l", "Azure-AsyncOperation: "+operationURL+"/a"),
			status(202, "Operation-Location: "+operationURL+"/o", "Azure-AsyncOperation: "+operationURL+"/a"),
			{202, []string{"Location: https://some.endpoint.com/op?operationid=25334578", "Retry-After: 60"}, sampleResponse, "the sample response"},
			content(202, `{"status":"Succeeded"}`),
			content(202, `{"status":"InProgress"}`),
			status(204),
		}},
		{"Redirects are not followed", []goldenAnswer{
			status(301, "Location: "+operationURL),
			status(302, "Location: "+operationURL),
			status(304),
			status(307, "Location: "+operationURL),
			status(308, "Location: "+operationURL),
		}},
		{"Not now", []goldenAnswer{
			status(408),
			refused(408, "RequestTimeout"),
			status(429),
			refused(429, "SubscriptionRequestsThrottled"),
			refused(429, "ResourceRequestsThrottled"),
			refused(429, "TooManyRequests"),
			refused(429, "RetryableErrorDueToAnotherOperation"),
			status(500),
			refused(500, "InternalServerError"),
			refused(500, "OperationTimedOut"),
			status(501),
			status(502),
			status(503),
			refused(503, "ServerTimeout"),
			status(504),
			refused(504, "GatewayTimeout"),
			status(599),
		}},
		{"Conflicts", []goldenAnswer{
			status(409),
			refused(409, "Conflict"),
			refused(409, "ConflictError"),
			refused(409, "AnotherOperationInProgress"),
			refused(409, "RetryableError"),
			refused(409, "ScopeLocked"),
			refused(409, "MissingSubscriptionRegistration"),
			refused(409, "ReadOnlyDisabledSubscription"),
			{409, []string{"x-ms-error-code: ScopeLocked"}, "", ""},
			{409, []string{"x-ms-error-code: ScopeLocked"}, `{"error":{"code":"Conflict"}}`, "CloudError Conflict"},
			{409, []string{"Retry-After: 5"}, `{"error":{"code":"ScopeLocked"}}`, "CloudError ScopeLocked"},
		}},
		{"Rights", []goldenAnswer{
			status(401),
			refused(401, "InvalidAuthenticationToken"),
			refused(401, "ExpiredAuthenticationToken"),
			refused(401, "AuthenticationFailed"),
			refused(401, "InvalidAuthenticationTokenTenant"),
			status(403),
			refused(403, "AuthorizationFailed"),
			refused(403, "LinkedAuthorizationFailed"),
			refused(403, "DenyAssignmentAuthorizationFailed"),
			refused(403, "RequestDisallowedByPolicy"),
		}},
		{"Not found", []goldenAnswer{
			status(404),
			content(404, "<html>not here</html>"),
			refused(404, "NotFound"),
			refused(404, "ResourceNotFound"),
			refused(404, "ParentResourceNotFound"),
			refused(404, "ResourceGroupNotFound"),
			refused(404, "SubscriptionNotFound"),
			refused(404, "InvalidSubscriptionId"),
			refused(404, "InvalidResourceType"),
			refused(404, "NoRegisteredProviderFound"),
			content(404, `{"code":"ResourceNotFound"}`),
			status(404, "x-ms-error-code: ResourceNotFound"),
			status(410),
		}},
		{"Other refusals", []goldenAnswer{
			status(400),
			refused(400, "BadRequest"),
			refused(400, "InvalidSubscriptionId"),
			refused(400, "InvalidApiVersionParameter"),
			refused(400, "NoRegisteredProviderFound"),
			status(405),
			refused(412, "PreconditionFailed"),
			status(418),
			status(451),
			status(499),
			content(400, `{"error":{"code":7,"message":"m"}}`),
			content(400, `{"error":"BadRequest"}`),
			content(400, "\x00\xff"),
		}},
		{"How long to wait", []goldenAnswer{
			status(429, "Retry-After: 60"),
			status(429, "Retry-After:  60 "),
			status(429, "Retry-After: 0"),
			status(429, "Retry-After: -5"),
			status(429, "Retry-After: 1.5"),
			status(429, "Retry-After: soon"),
			status(429, "Retry-After: 31536000"),
			status(429, "Retry-After: 9223372036854775807"),
			status(429, "Retry-After: 99999999999999999999999999"),
			status(429, "Retry-After: Sat, 31 Jan 2026 09:30:00 GMT"),
			status(429, "Retry-After: Saturday, 31-Jan-26 08:01:00 GMT"),
			status(429, "Retry-After: Sat, 31 Jan 2026 07:59:59 GMT"),
			status(429, "Retry-After: Sat, 31 Jan 9999 08:00:00 GMT"),
			status(429, "Retry-After: 2026-01-31T09:00:00Z"),
			status(429, "retry-after-ms: 1500"),
			status(429, "x-ms-retry-after-ms: 250"),
			status(429, "retry-after-ms: 1500", "Retry-After: 60"),
			status(429, "retry-after-ms: 0", "Retry-After: 60"),
			status(429, "retry-after-ms: 1s", "x-ms-retry-after-ms: 250"),
		}},
	}

	var out bytes.Buffer
	for i, section := range sections {
		if i > 0 {
			out.WriteByte('\n')
		}
		w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "%s\tDELETE\tLocation\tAzure-AsyncOperation\tread\twait\tcode\tnext poll\n", strings.ToUpper(section.title))
		for _, g := range section.answers {
			fmt.Fprintln(w, goldenLine(g))
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "testdata/classify.golden", out.Bytes())
}

// goldenLine is an answer, its kind for each question, and what comes with it for any of them.
func goldenLine(g goldenAnswer) string {
	columns := []string{g.String()}
	wait := "-"
	var codes, operations []string
	for _, q := range []question{askDelete, askLocation, askAsyncOperation, askRead} {
		o := classify(q, g.answer())
		columns = append(columns, string(o.Kind))
		if o.RetryAfter > 0 {
			wait = o.RetryAfter.String()
		}
		if o.Code != "" && !slices.Contains(codes, o.Code) {
			codes = append(codes, o.Code)
		}
		if op := strings.TrimSpace(string(o.Operation.Protocol) + " " + o.Operation.URL); op != "" && !slices.Contains(operations, op) {
			operations = append(operations, op)
		}
	}
	dash := func(s []string) string {
		if len(s) == 0 {
			return "-"
		}
		return strings.Join(s, " | ")
	}
	columns = append(columns, wait, dash(codes), dash(operations))
	return strings.ToValidUTF8(strings.ReplaceAll(strings.Join(columns, "\t"), "\x00", `\x00`), `\xff`)
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s (-want +got); -update rewrites it:\n%s", file, diff)
	}
}

func TestCodeAndMessage(t *testing.T) {
	long := strings.Repeat("é", 3000)
	tests := []struct {
		name          string
		status        int
		header, body  string // header: x-ms-error-code
		code, message string
	}{
		{"CloudError", 403, "", `{"error":{"code":"RequestDisallowedByPolicy","message":"Policy p says no.","target":"x","details":[{"code":"y"}]}}`, "RequestDisallowedByPolicy", "Policy p says no."},
		{"the header goes first", 409, "ScopeLocked", `{"error":{"code":"Conflict","message":"locked"}}`, "ScopeLocked", "locked"},
		{"without the envelope", 400, "", `{"code":"BadRequest","message":"no"}`, "BadRequest", "no"},
		{"no body", 403, "", "", "Forbidden", "ARM answered 403 Forbidden"},
		{"a page of a proxy", 502, "", "<html>bad gateway</html>", "BadGateway", "ARM answered 502 Bad Gateway"},
		{"two words become one code", 404, "", "{}", "NotFound", "ARM answered 404 Not Found"},
		{"an apostrophe is no part of a code", 418, "", "", "Imateapot", "ARM answered 418 I'm a teapot"},
		{"a code of the wrong type", 400, "", `{"error":{"code":7,"message":"m"}}`, "BadRequest", "m"},
		{"a null error", 400, "", `{"error":null}`, "BadRequest", "ARM answered 400 Bad Request"},
		{"a status without a name", 499, "", "", "Http499", "ARM answered 499"},
		{"a wall of text", 400, "", `{"error":{"code":"` + long + `","message":"` + long + `"}}`, long[:128], long[:2048]},
		{"cut between characters", 400, "", `{"error":{"code":"x` + long + `","message":"m"}}`, "x" + long[:126], "m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := content(tt.status, tt.body).answer()
			a.header.Set("x-ms-error-code", tt.header)
			a.header.Set("x-ms-request-id", "00000000-0000-0000-0000-00000000abcd")
			o := classify(askDelete, a)
			if o.Code != tt.code || o.Message != tt.message {
				t.Errorf("got  %q: %q\nwant %q: %q", o.Code, o.Message, tt.code, tt.message)
			}
			if !utf8.ValidString(o.Code + o.Message) {
				t.Error("a character was split")
			}
			if o.HTTPStatus != tt.status || o.ARMRequestID != "00000000-0000-0000-0000-00000000abcd" {
				t.Errorf("status %d, request id %q", o.HTTPStatus, o.ARMRequestID)
			}
		})
	}
}

func TestFailedOperationIsCutToo(t *testing.T) {
	long := strings.Repeat("é", 3000)
	a := content(200, `{"status":"Failed","error":{"code":"`+long+`","message":"`+long+`"}}`).answer()
	if o := classify(askAsyncOperation, a); o.Code != long[:128] || o.Message != long[:2048] {
		t.Errorf("a code of %d bytes and a message of %d, want 128 and 2048", len(o.Code), len(o.Message))
	}
}
