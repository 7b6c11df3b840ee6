package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// An exchange with the dashboard: what is asked, and what comes back.
type exchange struct {
	method, path, body string
	header             map[string]string
	status             int
	says               string // in the body
}

func (e exchange) run(t *testing.T, base string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), e.method, base+e.path, strings.NewReader(e.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range e.header {
		r.Header.Set(name, value)
	}
	r.Host = r.Header.Get("Host")
	stay := &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := stay.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != e.status || !strings.Contains(string(body), e.says) {
		t.Errorf("%s %s %v: %d %.300s (%v), want %d and %q", e.method, e.path, e.header, response.StatusCode, body, err, e.status, e.says)
	}
	return response
}

// TestDashboardGuards has visitors who mean it ill.
func TestDashboardGuards(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 1, arm.Script{})
	w := a.worker(t)
	a.park(t, "r0", 0)
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
	shows, base := a.dashboard(t)
	base = strings.TrimSuffix(base, "/")
	asJSON := map[string]string{"Content-Type": "application/json"}
	const wish = `{"requestId":"r0","sequenceNumber":"2"}`
	for _, e := range []exchange{
		{method: "GET", path: "/", status: 200, says: "/js/app.js"},
		{method: "GET", path: "/js/app.js", status: 200},
		{method: "GET", path: "/js/", status: 404},
		{method: "GET", path: "/login.html", status: 404},
		{method: "GET", path: "/api/state", status: 200, says: `"actions":false`},
		{method: "GET", path: "/api/find?requestId=r0", status: 200, says: `"why":"notBefore"`},
		{method: "POST", path: "/api/actions/cancel", body: wish, header: asJSON, status: 403, says: "--allow-actions"},
		{method: "GET", path: "/", header: map[string]string{"Host": "stranger.example"}, status: 403, says: "loopback"},
		{method: "GET", path: "/api/state", header: map[string]string{"Host": "stranger.example:8090"}, status: 403},
		{method: "GET", path: "/", header: map[string]string{"Host": "localhost:9999"}, status: 200}, // a forwarded port
		{method: "GET", path: "/", header: map[string]string{"Host": "[::1]"}, status: 200},
	} {
		if e.header["Host"] == "" {
			e.header = map[string]string{"Host": strings.TrimPrefix(base, "http://"), "Content-Type": e.header["Content-Type"]}
		}
		response := e.run(t, base)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		} {
			if got := response.Header.Get(name); got != want {
				t.Errorf("%s %s: %s is %q, want %q", e.method, e.path, name, got, want)
			}
		}
	}
	shows.terminate(t)
	shows.wantExit(t, 0, 10*time.Second)

	_, base = a.dashboard(t, "--allow-actions")
	base = strings.TrimSuffix(base, "/")
	host := strings.TrimPrefix(base, "http://")
	foreign := map[string]string{"Host": host, "Content-Type": "application/json", "Origin": "https://stranger.example", "Sec-Fetch-Site": "cross-site"}
	own := map[string]string{"Host": host, "Content-Type": "application/json", "Origin": base, "Sec-Fetch-Site": "same-origin"}
	for _, e := range []exchange{
		{method: "POST", path: "/api/actions/cancel", body: wish, header: foreign, status: 403},
		{method: "POST", path: "/api/actions/cancel", body: wish, header: map[string]string{"Host": host, "Content-Type": "text/plain"}, status: 415},
		{method: "POST", path: "/api/actions/cancel", body: `requestId=r0`, header: own, status: 400},
		{method: "POST", path: "/api/actions/burn", body: wish, header: own, status: 404},
		{method: "GET", path: "/api/actions/cancel", header: own, status: 405},
		{method: "POST", path: "/api/actions/cancel", body: `{"requestId":"r0","sequenceNumber":"77"}`, header: own, status: 409, says: "it has gone on since"},
		{method: "POST", path: "/api/actions/cancel", body: `{"requestId":"r7","sequenceNumber":"2"}`, header: own, status: 409, says: "not in the queue any more"},
		{method: "POST", path: "/api/actions/drop", body: wish, header: own, status: 409, says: "not a dead letter any more"},
	} {
		e.run(t, base)
	}
	queue, err := a.Broker.Entity(defaultQueue)
	if err != nil {
		t.Fatal(err)
	}
	if left := queue.Counts(); left.Scheduled != 1 {
		t.Fatalf("the queue has %+v, want the one request as it was", left)
	}
	number := scheduled(t, base)
	(exchange{method: "POST", path: "/api/actions/cancel", body: `{"requestId":"r0","sequenceNumber":"` + number + `"}`, header: own, status: 200, says: "cancelled"}).run(t, base)
	a.wantNothingLeft(t, 1)
}

// scheduled is the sequence number of the one request that waits.
func scheduled(t *testing.T, base string) string {
	t.Helper()
	response, err := http.Get(base + "/api/find?requestId=r0")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var found struct {
		Rows []struct{ SequenceNumber string }
	}
	if err := json.NewDecoder(response.Body).Decode(&found); err != nil || len(found.Rows) != 1 {
		t.Fatalf("found %+v (%v), want one", found, err)
	}
	return found.Rows[0].SequenceNumber
}

// TestDashboardToken is served to everybody, and shown to those who have the token.
func TestDashboardToken(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 0, arm.Script{})
	p := launch(t, a.env, "dashboard", "--addr=0.0.0.0:0", "--token=open sesame")
	if err := p.wait(&p.out, func(text string) bool { return strings.HasSuffix(text, "/\n") }); err != nil {
		t.Fatal(err)
	}
	base := strings.TrimSuffix(strings.TrimSpace(p.out.text()), "/")
	if strings.Contains(p.out.text()+p.err.text(), "sesame") {
		t.Error("the token is printed")
	}
	form := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	for _, e := range []exchange{
		{method: "GET", path: "/", status: 401, says: `<form method="post" action="/login">`},
		{method: "GET", path: "/api/state", status: 401, says: "token"},
		{method: "GET", path: "/api/find?requestId=r0", status: 401},
		{method: "GET", path: "/api/timeline?lineage=r0", status: 401},
		{method: "GET", path: "/js/app.js", status: 401},
		{method: "GET", path: "/app.css", status: 200},
		{method: "POST", path: "/api/actions/cancel", status: 401},
		{method: "GET", path: "/api/state", header: map[string]string{"Authorization": "Bearer open"}, status: 401},
		{method: "GET", path: "/api/state", header: map[string]string{"Authorization": "Bearer open sesame"}, status: 200},
		{method: "GET", path: "/api/state", header: map[string]string{"Cookie": "hsmsweep-dashboard=open sesame"}, status: 401},
		{method: "POST", path: "/login", body: "token=open", header: form, status: 303},
		{method: "POST", path: "/login", body: "token=open+sesame", header: map[string]string{"Content-Type": form["Content-Type"], "Sec-Fetch-Site": "cross-site"}, status: 403},
	} {
		if cookies := e.run(t, base).Cookies(); len(cookies) > 0 {
			t.Errorf("%s %s gave a cookie", e.method, e.path)
		}
	}
	in := (exchange{method: "POST", path: "/login", body: "token=open+sesame", header: form, status: 303}).run(t, base)
	cookies := in.Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || strings.Contains(cookies[0].Value, url.QueryEscape("open sesame")) {
		t.Fatalf("signing in gave %v", cookies)
	}
	cookie := map[string]string{"Cookie": cookies[0].Name + "=" + cookies[0].Value}
	(exchange{method: "GET", path: "/", header: cookie, status: 200, says: "/js/app.js"}).run(t, base)
	(exchange{method: "POST", path: "/api/actions/cancel", header: cookie, status: 403, says: "--allow-actions"}).run(t, base)
}

// TestDashboardMany goes through a queue full of requests, keeps little of it, and finds the one that is looked for.
func TestDashboardMany(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: 100,000 messages are sent first")
	}
	const requests, mostMemory = 100_000, 160 << 20
	a := startAzure(t, 0, arm.Script{})
	a.fill(t, requests, time.Now().Add(day))
	p, base := a.dashboard(t)
	var state struct {
		Number int64
		Head   struct {
			Took, Pause    int64
			Active, Parked int
			Faults         []string
		}
		Waiting struct {
			Rows []struct{ RequestID string }
		}
	}
	for round := range 2 { // the second has the first one's memory to free
		response, err := http.Get(base + "api/state?number=" + strconv.FormatInt(state.Number, 10))
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(response.Body).Decode(&state)
		response.Body.Close()
		if err != nil || state.Head.Parked != requests || state.Head.Active != 0 || round == 0 && len(state.Waiting.Rows) != 300 {
			t.Fatalf("round %d: %+v, %d rows (%v)", round, state.Head, len(state.Waiting.Rows), err)
		}
		if state.Head.Pause < 8*state.Head.Took {
			t.Errorf("a round that takes %d ms is followed by a pause of %d ms, want nine times as much", state.Head.Took, state.Head.Pause)
		}
	}
	memory := peakMemory(t, p.cmd.Process.Pid)
	t.Logf("a round takes %d ms; %d MB", state.Head.Took, memory>>20)
	if memory > mostMemory {
		t.Errorf("it takes %d MB, want at most %d", memory>>20, mostMemory>>20)
	}
	(exchange{method: "GET", path: "api/find?requestId=m99999", status: 200, says: `"requestId":"m99999"`}).run(t, base)
}

// TestDashboardOutage tells that Service Bus is gone, in its words, and goes on by itself when it is back.
func TestDashboardOutage(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 0, arm.Script{})
	_, base := a.dashboard(t)
	look := func() (faults []string) {
		t.Helper()
		response, err := http.Get(base + "api/state?number=1")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var state struct{ Head struct{ Faults []string } }
		if err := json.NewDecoder(response.Body).Decode(&state); err != nil {
			t.Fatal(err)
		}
		return state.Head.Faults
	}
	if faults := look(); len(faults) > 0 {
		t.Fatalf("faults %q, want none", faults)
	}
	a.setStatus(t, defaultQueue, broker.Disabled)
	eventually(t, "it tells", func() bool { return strings.Contains(strings.Join(look(), " "), "The queue: ") })
	a.setStatus(t, defaultQueue, broker.Enabled)
	eventually(t, "it goes on", func() bool { return len(look()) == 0 })
}

// TestDemoDashboard looks at the demo, whose samples must end as ever, and ends it.
func TestDemoDashboard(t *testing.T) {
	t.Parallel()
	p := launch(t, nil, "demo", "--dashboard")
	if err := p.wait(&p.out, func(text string) bool { return strings.Contains(text, "goes on until you interrupt it") }); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(p.out.text(), "The dashboard is at ")
	base, _, _ := strings.Cut(rest, "\n")
	eventually(t, "what follows the samples waits", func() bool {
		response, err := http.Get(base + "api/find?requestId=slow")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return err == nil && strings.Contains(string(text), `"why":"operation"`)
	})
	(exchange{method: "GET", path: "api/state", status: 200, says: `"actions":true`}).run(t, base)
	p.terminate(t)
	p.wantExit(t, 0, 15*time.Second)
}
