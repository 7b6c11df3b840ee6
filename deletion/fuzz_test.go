package deletion

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// FuzzConnectionID: what is accepted is rebuilt in its places, and has the type's names in any spelling.
func FuzzConnectionID(f *testing.F) {
	for _, tt := range goodConnections {
		f.Add(tt.id)
	}
	for _, id := range []string{"", connection + "/", swap("sample-pec", ".."), swap("sample-pec", "%2e%2e"), swap("sample-mhsm", "a?b"),
		swap("KeyVault", "\u212AeyVault"), swap("sample-group", "a\u202eb"), pool, endpoint} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseConnectionID(text)
		if err != nil {
			if id != (ConnectionID{}) {
				t.Errorf("%q is refused and yet gives %+v", text, id)
			}
			return
		}
		checkConnection(t, id)
		if !strings.EqualFold(id.String(), text) || len(id.String()) != len(text) {
			t.Errorf("%q is rebuilt as %q", text, id)
		}
		scope := must(t, ParseScope, id.Pool.String())
		if !scope.Contains(id.Pool) {
			t.Errorf("%v is outside itself", id.Pool)
		}
	})
}

// FuzzDecodeRequest: an accepted request names a connection or selects some, keeps to its limits, is one that encoding/json reads
// alike, and is the same when it was written and read again.
func FuzzDecodeRequest(f *testing.F) {
	for _, body := range []string{
		`{"connectionId":"` + connection + `"}`,
		object(`"requestId":"R-1","status":["rejected"],"privateEndpointId":"` + endpoint + `","ticket":{"system":"s","id":"7","url":"u"}`),
		object(`"notBefore":"2026-01-31T08:00:00+01:00","dryRun":true,"force":false,"reason":"x","requestedBy":"y"`),
		`{"managedHsmId":"` + pool + `","status":["Approved"]}`, `{"privateEndpointId":"` + endpoint + `"}`,
		object(`"dryRun":true,"dryRun":false`), object(`"Status":[]`), `null`, `[]`, ``, "\uFEFF{}", `{"requestId":"\ud800"}`, "{\"\xff\":1}",
		`{"connectionId":"` + connection + `"} {}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeRequest(data)
		if utf8.RuneCountInString(r.RequestID) > 128 {
			t.Errorf("requestId %q is too long", r.RequestID)
		}
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		named := ""
		if r.Selects() {
			if (r.Pool == nil) == (r.Endpoint == nil) || r.Pool != nil && len(r.Statuses) == 0 {
				t.Errorf("selects by %+v", r)
			}
		} else {
			checkConnection(t, r.Connection)
			named = r.Connection.String()
		}
		text, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if copied, err := DecodeRequest(text); err != nil || !cmp.Equal(r, copied, cmp.Comparer(time.Time.Equal)) {
			t.Errorf("written as %s, %v: %s", text, err, cmp.Diff(r, copied))
		}
		for _, s := range r.Statuses {
			if !slices.Contains(LinkStatuses, s) {
				t.Errorf("status %q", s)
			}
		}
		var again struct {
			ConnectionID, RequestID, PrivateEndpointID string
			Status                                     []string
			DryRun, Force                              bool
		}
		if err := json.Unmarshal(data, &again); err != nil {
			t.Fatalf("encoding/json refuses what was accepted: %v", err)
		}
		if !strings.EqualFold(again.ConnectionID, named) || again.RequestID != r.RequestID || again.DryRun != r.DryRun || again.Force != r.Force {
			t.Errorf("read as %+v, by encoding/json as %+v", r, again)
		}
		if (len(again.Status) > 0) != (len(r.Statuses) > 0) || (again.PrivateEndpointID != "") != (r.Endpoint != nil) {
			t.Errorf("a guard was dropped: read as %+v, by encoding/json as %+v", r, again)
		}
		if !LooksLikeRequest(data) {
			t.Error("a request does not look like one")
		}
	})
}

// FuzzRetryAfter: never negative, and a plain number of seconds is taken at its word.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "60", " 60 ", "-1", "+1", "1.5", "1e3", "9223372036", "9223372037", "18446744073709551616", "soon",
		"Sat, 31 Jan 2026 09:30:00 GMT", "Sat, 31 Jan 9999 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "Saturday, 31-Jan-26 08:01:00 GMT"} {
		f.Add(s, "", "")
		f.Add("60", s, "")
		f.Add("60", "", s)
	}
	f.Fuzz(func(t *testing.T, seconds, ms, xms string) {
		h := http.Header{}
		h.Set("Retry-After", seconds)
		h.Set("retry-after-ms", ms)
		h.Set("x-ms-retry-after-ms", xms)
		d := retryAfter(h, arrival)
		if d < 0 {
			t.Errorf("%q, %q, %q: %v", seconds, ms, xms, d)
		}
		// The longest whole number of seconds that a Duration surely holds has nine digits.
		if n := len(seconds); ms == "" && xms == "" && n > 0 && n < 10 && strings.Trim(seconds, "0123456789") == "" {
			if want, err := time.ParseDuration(seconds + "s"); err != nil || d != want {
				t.Errorf("%q: %v, want %v", seconds, d, want)
			}
		}
		if later := retryAfter(h, arrival.Add(time.Hour)); later > d {
			t.Errorf("%q: the wait grows from %v to %v as time goes by", seconds, d, later)
		}
	})
}

// FuzzClassify: no refusal is ever taken for a deletion, and whatever has to be polled says how.
func FuzzClassify(f *testing.F) {
	for _, n := range []uint16{0, 100, 200, 201, 202, 204, 302, 400, 401, 403, 404, 408, 409, 410, 412, 429, 500, 503, 599, 999} {
		f.Add(n, []byte(`{"error":{"code":"ResourceNotFound","message":"m"}}`), "", "")
		f.Add(n, []byte(sampleResponse), operationURL, "Location")
		f.Add(n, []byte(`{"status":"Succeeded"}`), operationURL, "Azure-AsyncOperation")
		f.Add(n, []byte(`{"status":"Failed","error":{"code":"x"}}`), "ScopeLocked", "x-ms-error-code")
		f.Add(n, []byte("<html>"), "60", "Retry-After")
	}
	f.Fuzz(func(t *testing.T, status uint16, body []byte, value, header string) {
		a := answer{status: int(status), header: http.Header{}, body: body, at: arrival}
		a.header.Set(header, value)
		for _, q := range []question{askDelete, askLocation, askAsyncOperation, askRead} {
			o := classify(q, a)
			success := status >= 200 && status <= 299
			if !slices.Contains(Kinds, o.Kind) && o.Kind != unclear {
				t.Errorf("%s: kind %q is none", q, o.Kind)
			}
			if !success && (o.Kind == Deleted || o.Kind == Present || o.Kind == Accepted || o.Kind == Running) {
				t.Errorf("%s: status %d is %s", q, status, o.Kind)
			}
			if o.Kind == Absent && !success && (status != 404 && status != 410) {
				t.Errorf("%s: status %d is absent", q, status)
			}
			if !success && (o.Code == "" || o.Message == "" || len(o.Code) > 128 || len(o.Message) > 2048) {
				t.Errorf("%s: status %d has the code %q and the message %q", q, status, o.Code, o.Message)
			}
			if polled := o.Kind == Accepted || o.Kind == Running; polled != (o.Operation.Protocol != "") {
				t.Errorf("%s: %s with the operation %+v", q, o.Kind, o.Operation)
			}
			if (o.Operation.URL == "") != (o.Operation.Protocol == ReadBack || o.Operation.Protocol == "") {
				t.Errorf("%s: operation %+v", q, o.Operation)
			}
			if status == 429 && o.Kind != Throttled || status >= 500 && o.Kind != Unavailable {
				t.Errorf("%s: status %d is %s", q, status, o.Kind)
			}
			if o.RetryAfter < 0 || o.HTTPStatus != int(status) {
				t.Errorf("%s: wait %v, status %d", q, o.RetryAfter, o.HTTPStatus)
			}
		}
	})
}

// FuzzTrust reads the host of a trusted URL a second way, the one of browsers, where a backslash is a slash as well.
func FuzzTrust(f *testing.F) {
	for _, u := range []string{
		operationURL, "https://westeurope.management.azure.com:443/op?a=b", "https://poll.example:8443/x", "/op", "//evil.example/x", "?q",
		"https://management.azure.com@evil.example/", "https://evil.example#.management.azure.com/", `https://evil.example\.management.azure.com/`,
		`https://management.azure.com\@evil.example/`, "https://evil.example%2f.management.azure.com/", "https://management.azure.com./", "https:op",
		"https://[::1]/", "https://[fe80::1%25.management.azure.com]/", "https://evil-management.azure.com/", "https://management.azure.com.evil.example/", "http://management.azure.com/", "HTTPS://MANAGEMENT.AZURE.COM:/",
	} {
		f.Add(u)
	}
	tr := trusting(f, "https://management.azure.com", "poll.example:8443")
	f.Fuzz(func(t *testing.T, u string) {
		op, err := tr.resolve(Operation{URL: u, Protocol: Location})
		if err != nil {
			return
		}
		rest, isHTTPS := strings.CutPrefix(strings.ToLower(op.URL), "https://")
		if !isHTTPS {
			t.Fatalf("%q is asked as %q, which is not https", u, op.URL)
		}
		host := rest
		if end := strings.IndexAny(rest, `/\?#`); end >= 0 {
			host = rest[:end]
		}
		host = strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":")
		if host != "management.azure.com" && host != "poll.example:8443" &&
			(!strings.HasSuffix(host, ".management.azure.com") || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "") {
			t.Errorf("%q is trusted, its host is %q", u, host)
		}
		if again, err := tr.resolve(op); err != nil || again != op {
			t.Errorf("%q becomes %q, and that becomes %q, %v", u, op.URL, again.URL, err)
		}
	})
}
