package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"hsmsweep/deletion"
	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/worker"
)

// dashboard starts the command and returns the page's address.
func (a *azure) dashboard(t *testing.T, args ...string) (*process, string) {
	t.Helper()
	p := launch(t, a.env, append([]string{"dashboard", "--addr=127.0.0.1:0"}, args...)...)
	if err := p.wait(&p.out, func(text string) bool { return strings.HasSuffix(text, "/\n") }); err != nil {
		t.Fatalf("the dashboard's address: %v\nstderr:\n%s", err, p.err.text())
	}
	return p, strings.TrimSpace(p.out.text())
}

// A pool that a company may have, and requests about it.
const dayPool = "/subscriptions/%s/resourceGroups/rg-crypto/providers/Microsoft.KeyVault/managedHSMs/%s"

var (
	prod  = fmt.Sprintf(dayPool, "00000000-0000-0000-0000-000000000000", "hsm-prod-weu")
	north = fmt.Sprintf(dayPool, "22222222-2222-2222-2222-222222222222", "hsm-prod-neu")
	tests = fmt.Sprintf(dayPool, "11111111-1111-1111-1111-111111111111", "hsm-test-weu")
)

// busyDay is a day at a company: what ARM answers about each connection, by pool and name.
func busyDay(t *testing.T) *azure {
	t.Helper()
	a := newAzure(t, 0, arm.Script{})
	slow := func(retryAfter string) arm.Connection {
		return answers(started(arm.Operation{Polls: 1000, RetryAfter: retryAfter}))
	}
	often := func(answer arm.Answer) arm.Connection { return answers(slices.Repeat([]arm.Answer{answer}, 100)...) }
	for pool, connections := range map[string]map[string]arm.Connection{
		prod: {
			"pe-payments-01": slow("45"), "pe-payments-02": slow("95"), "pe-ledger-07": slow("140"), "pe-signing-03": slow("310"), "pe-vault-sync": {},
			"pe-batch-11": often(arm.Answer{Status: 409, Code: "ConflictError", Message: "Another operation is in progress."}),
			"pe-batch-12": often(arm.Answer{Status: 409, Code: "ConflictError", Message: "Another operation is in progress."}),
			"pe-locked":   answers(arm.Answer{Status: 409, Code: "ScopeLocked", Message: "The scope is locked by 'do-not-delete'."}),
			"pe-policy":   answers(arm.Answer{Status: 403, Code: "RequestDisallowedByPolicy", Message: "Disallowed by the policy 'deny-hsm-deletes'."}),
			"pe-in-use":   {Status: "Approved"}, "pe-done-1": {}, "pe-done-2": {}, "pe-reports": {},
		},
		north: {"pe-north-1": often(arm.Answer{Status: 429, RetryAfter: "210"}), "pe-north-2": {}},
		tests: {"pe-ci-1": often(arm.Answer{Status: 503, RetryAfter: "70"}), "pe-ci-2": {}, "pe-ci-3": {}},
	} {
		p := arm.Pool{ID: pool}
		for name, c := range connections {
			c.Name = name
			p.Connections = append(p.Connections, c)
		}
		if err := a.ARM.AddPool(p); err != nil {
			t.Fatal(err)
		}
	}
	a.serve(t)
	return a
}

// wish sends a request with a ticket's id.
func (a *azure) wish(t *testing.T, id, pool, name string, more ...string) {
	t.Helper()
	call(t, a.env, append([]string{"submit", "--request-id", id, "--ticket-id", id, "--requested-by", "network team", pool + "/privateEndpointConnections/" + name}, more...)...)
}

// past publishes the events of an hour.
func (a *azure) past(t *testing.T) {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(emulator.ConnectionString(a.addr), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeClient(t.Context(), client)
	sender, err := client.NewSender(defaultEvents, nil)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	outcomes := []worker.Reason{worker.EndDeleted, worker.EndDeleted, worker.EndDeleted, worker.EndDeleted, worker.EndAbsent, worker.EndDryRun, worker.EndStatusMismatch, worker.EndTimedOut}
	for i := range 90 {
		at := time.Now().Add(-time.Duration(90-i) * 39 * time.Second)
		id := fmt.Sprintf("CHG00%d", 41000+i)
		data := worker.EventData{RequestID: id, ConnectionID: fmt.Sprintf("%s/privateEndpointConnections/pe-app-%02d", prod, i), Outcome: outcomes[random.IntN(len(outcomes))],
			RequestedAt: at.Add(-time.Duration(random.IntN(600)) * time.Second), StartedAt: at.Add(-time.Second), FinishedAt: at, Attempts: 1, Ticket: &deletion.Ticket{ID: id}}
		if data.Outcome == worker.EndTimedOut {
			data.Error = &worker.EventError{Code: "TimedOut", Message: "not done within 24h0m0s; last it waited for operation"}
		}
		event, err := json.Marshal(map[string]any{"id": id + "@1/end", "time": at, "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "data": data})
		if err == nil {
			err = sender.SendMessage(t.Context(), &azservicebus.Message{Body: event, MessageID: new(id)}, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDashboardInBrowser goes an operator's way through the page: looks, cancels, resubmits, by mouse and by keyboard. What it looks like
// is kept: go test -artifacts -outputdir DIR -run TestDashboardInBrowser ./cmd/hsmsweep.
func TestDashboardInBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute: a browser")
	}
	b := startBrowser(t)
	a := busyDay(t)
	a.past(t)
	a.worker(t)
	page, url := a.dashboard(t, "--allow-actions")
	b.size(t, 1280, 800, "light")
	b.do(t, chromedp.Navigate(url))
	b.eventually(t, "it loads, and says that nothing waits", `document.querySelector("#pulse.live") && document.querySelector("#waiting .nothing").innerText === "Nothing waits."`)
	b.eventually(t, "it has the events that were there", `document.querySelectorAll("#ended tbody tr").length === 90`)

	for i, name := range []string{"pe-payments-01", "pe-payments-02", "pe-ledger-07", "pe-signing-03", "pe-batch-11", "pe-batch-12", "pe-locked", "pe-policy", "pe-done-1", "pe-done-2"} {
		a.wish(t, fmt.Sprintf("CHG00%d", 42001+i), prod, name)
	}
	a.wish(t, "CHG0042020", north, "pe-north-1")
	a.wish(t, "CHG0042021", tests, "pe-ci-1")
	a.wish(t, "CHG0042022", prod, "pe-in-use", "--status", "Disconnected")
	a.wish(t, "CHG0042023", prod, "pe-reports", "--not-before", time.Now().Add(3*time.Hour).Format(time.RFC3339))
	a.wish(t, "CHG0042024", prod, "pe-vault-sync", "--not-before", time.Now().Add(26*time.Hour).Format(time.RFC3339))
	b.eventually(t, "what parks is seen without a reload", row("#waiting", "CHG0042001")+`?.innerText.includes("ARM works on it")`)
	b.eventually(t, "what failed is a dead letter", row("#dead", "CHG0042007")+`?.innerText.includes("ScopeLocked")`)
	b.eventually(t, "what ended is seen", row("#ended", "CHG0042009")+`?.innerText.includes("deleted")`)
	b.eventually(t, "what waits for its time is seen", row("#waiting", "CHG0042024"))
	b.eventually(t, "counts go along", `document.querySelector(".flow .dead .number").innerText === "2" && document.querySelector(".flow .parked .number").innerText === "10"`)
	b.shot(t, "wide-light", false)

	due := `document.querySelector("#waiting tbody td.due").innerText`
	before, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](due))
	if err != nil {
		t.Fatal(err)
	}
	b.eventually(t, "the count-down goes on", fmt.Sprintf("%s !== %q", due, before))

	t.Run("cancel", func(t *testing.T) {
		b.do(t, chromedp.Evaluate[chromedp.Void](row("#waiting", "CHG0042023")+".click()"))
		b.eventually(t, "the timeline is there", `document.querySelector("#details .timeline")?.innerText.includes("not before its time")`)
		b.shot(t, "details", false)
		b.click(t, `#details [data-act="cancel"]`)
		b.eventually(t, "it asks", `document.querySelector("#confirm[open]")?.innerText.includes("CHG0042023")`)
		b.shot(t, "question", false)
		b.click(t, "#confirm .danger")
		b.eventually(t, "it says what was done", `document.querySelector("#told").innerText.includes("CHG0042023")`)
		b.eventually(t, "the panel shows the end", `document.querySelector("#details .status").innerText.includes("cancelled")`)
		b.eventually(t, "it ended as cancelled", row("#ended", "CHG0042023")+`?.innerText.includes("cancelled") && !`+row("#waiting", "CHG0042023"))
		b.click(t, "#details .close")
	})
	t.Run("resubmit by keyboard", func(t *testing.T) {
		b.filter(t, "CHG0042007")
		b.eventually(t, "one row is left", `document.querySelectorAll("#dead tbody tr").length === 1`)
		b.press(t, kb.Enter, kb.ArrowRight, "r")
		b.eventually(t, "it asks", `document.querySelector("#confirm[open]")?.innerText.includes("Resubmit: CHG0042007")`)
		b.press(t, kb.Escape)
		b.eventually(t, "Escape leaves it", `!document.querySelector("#confirm[open]") && document.activeElement.closest("#dead")`)
		b.press(t, "r", kb.Tab, kb.Enter)
		b.eventually(t, "it ends again, as deleted: the lock was taken away", row("#ended", "CHG0042007")+`?.innerText.includes("deleted") && !`+row("#dead", "CHG0042007"))
		b.filter(t, kb.Backspace)
		b.eventually(t, "all rows are back", `document.querySelectorAll("#dead tbody tr").length === 1`)
	})
	t.Run("dead letter", func(t *testing.T) {
		b.do(t, chromedp.Evaluate[chromedp.Void](row("#dead", "CHG0042008")+".click()"))
		b.eventually(t, "the panel says what went wrong", `document.querySelector("#details .timeline")?.innerText.includes("rejected") && document.querySelector("#details .status").innerText.includes("deny-hsm-deletes")`)
		b.shot(t, "dead-letter", false)
		b.press(t, kb.Escape)
	})
	t.Run("keyboard", func(t *testing.T) {
		b.press(t, kb.ArrowDown)
		b.eventually(t, "the first row has the focus", `document.activeElement === document.querySelector("#waiting tbody tr")`)
		b.press(t, kb.ArrowDown, kb.Enter)
		b.eventually(t, "the second one's panel has the focus", `document.activeElement.id === "details" && document.querySelector("#details h2").innerText === document.querySelectorAll("#waiting td.request")[1].innerText`)
		b.press(t, kb.Escape)
		b.eventually(t, "Escape goes back to the row", `document.querySelector("#details").hidden && document.activeElement === document.querySelectorAll("#waiting tbody tr")[1]`)
	})
	t.Run("looks", func(t *testing.T) {
		b.size(t, 1280, 800, "dark")
		b.shot(t, "wide-dark", false)
		b.size(t, 1920, 1080, "dark")
		b.shot(t, "widest-dark", false)
		b.size(t, 768, 1024, "light")
		b.eventually(t, "768 px are enough", `document.documentElement.scrollWidth <= 768`)
		b.shot(t, "tablet-light", false)
		for _, scheme := range []string{"light", "dark"} {
			b.size(t, 375, 812, scheme)
			b.eventually(t, "375 px are enough", `document.documentElement.scrollWidth <= 375`)
			b.shot(t, "narrow-"+scheme, true)
		}
		b.do(t, chromedp.Evaluate[chromedp.Void](row("#waiting", "CHG0042001")+".click()"))
		b.eventually(t, "the timeline is there", `document.querySelector("#details .timeline")`)
		b.eventually(t, "375 px are enough for the panel", `document.documentElement.scrollWidth <= 375 && document.querySelector("#details").scrollWidth <= 375`)
		b.shot(t, "narrow-details", false)
	})
	t.Run("texts of strangers", func(t *testing.T) {
		const id = `<img src=x onerror=console.log(1)>`
		a.wish(t, id, prod, "pe-vault-sync", "--not-before", "2999-01-01T00:00:00Z", "--reason", id)
		b.eventually(t, "they are text", row("#waiting", id))
		b.do(t, chromedp.Evaluate[chromedp.Void](row("#waiting", id)+".click()"))
		b.eventually(t, "in the panel, too", fmt.Sprintf(`document.querySelector("#details h2").innerText === %q && !document.querySelector("main img, aside img")`, id))
	})
	t.Run("outage", func(t *testing.T) {
		b.size(t, 1280, 800, "light")
		a.setStatus(t, defaultQueue, broker.Disabled)
		b.eventually(t, "it says so, in Service Bus's words", `document.querySelector("#fault").innerText.includes("disabled")`)
		b.shot(t, "outage", false)
	})
	b.wantQuiet(t)
	t.Run("lost", func(t *testing.T) { // of which the console does tell
		b.press(t, kb.Escape)
		page.terminate(t)
		page.wantExit(t, 0, 10*time.Second)
		b.eventually(t, "it says that nobody answers", `document.querySelector("#pulse.lost") && !document.querySelector("#fault").hidden`)
		b.shot(t, "lost", false)
	})
}

// TestDashboardSearch looks for a request that is not among the most urgent.
func TestDashboardSearch(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: a browser")
	}
	b := startBrowser(t)
	a := startAzure(t, 0, arm.Script{})
	a.fill(t, 1000, time.Now().Add(day))
	_, url := a.dashboard(t)
	b.size(t, 1280, 800, "light")
	b.do(t, chromedp.Navigate(url))
	b.eventually(t, "it shows some of all", `document.querySelector("#waiting .count").innerText === "300 of 1,000"`)
	b.filter(t, "m999")
	b.eventually(t, "the rest is offered", `document.querySelector("#waiting .more button")?.innerText.includes("all 1,000")`)
	b.click(t, "#waiting .more button")
	b.eventually(t, "it is found", row("#waiting", "m999")+`?.innerText.includes("scheduled by its sender")`)
	b.do(t, chromedp.Evaluate[chromedp.Void](row("#waiting", "m999")+".click()"))
	b.eventually(t, "nobody is offered what is not allowed", `document.querySelector("#details .timeline") && !document.querySelector("[data-act]") && document.querySelector("#action-keys").hidden`)
	b.wantQuiet(t)
}

// TestDashboardLogin signs in: with the wrong token, the right one, and a link that has it.
func TestDashboardLogin(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: a browser")
	}
	b := startBrowser(t)
	a := startAzure(t, 0, arm.Script{})
	_, url := a.dashboard(t, "--token=open sesame")
	b.size(t, 375, 812, "light")
	b.do(t, chromedp.Navigate(url), chromedp.SendKeys(chromedp.CSS("#token"), "open"+kb.Enter))
	b.eventually(t, "a wrong token is told", `document.querySelector("#wrong")?.hidden === false`)
	b.shot(t, "login", false)
	b.do(t, chromedp.SendKeys(chromedp.CSS("#token"), "open sesame"+kb.Enter))
	b.eventually(t, "the right one leads in", `document.querySelector("#pulse.live")`)
	b.do(t, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, network.ClearBrowserCookies, cdp.Empty{})
		return err
	}))
	b.eventually(t, "without the cookie it is out again", `document.querySelector("#token")`)
	b.do(t, chromedp.Navigate("about:blank"), chromedp.Navigate(url+"#token=open%20sesame"))
	b.eventually(t, "a link with the token leads in, and does not show it", `document.querySelector("#pulse.live") && !location.href.includes("sesame")`)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, line := range b.said {
		if !strings.Contains(line, "401") { // which is what there is to see without a token
			t.Errorf("the console shows %s", line)
		}
	}
}

// filter types over what is in the filter. The slash that leads there is typed too: DevTools sends it apart from its key.
func (b *browser) filter(t *testing.T, text string) {
	t.Helper()
	b.press(t, "/")
	b.eventually(t, "a slash leads to the filter", `document.activeElement.id === "filter"`)
	b.do(t, chromedp.Evaluate[chromedp.Void](`document.activeElement.select()`))
	b.press(t, text)
}

// row is an expression for the row of a request in a list.
func row(list, requestID string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("%s tbody tr")].find((r) => r.querySelector("td.request").innerText === %q)`, list, requestID)
}
