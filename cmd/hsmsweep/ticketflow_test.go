package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hsmsweep/deletion"
	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/worker"
)

const ticketPool = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/sample-group/providers/Microsoft.KeyVault/managedHSMs/tickets-mhsm"

// TestTickets posts each ticket twice over HTTPS, runs a worker, and lets the README's filters and bodies have its events.
func TestTickets(t *testing.T) {
	t.Parallel()
	tickets := []struct {
		file, number, connection string
		outcome                  worker.Reason
	}{
		{"servicenow-queue.json", "CHG0000001", ticketPool + "/privateEndpointConnections/gone-1", worker.EndDeleted},
		{"jira-queue.json", "HSM-1", ticketPool + "/privateEndpointConnections/gone-2", worker.EndDeleted},
		{"servicenow-eventgrid.json", "CHG0000002", ticketPool + "/privateEndpointConnections/gone-3", worker.EndDeleted},
		{"jira-eventgrid.json", "HSM-2", ticketPool + "/privateEndpointConnections/nowhere", worker.EndAbsent},
		{"servicenow-queue.json", "CHG0000003", ticketPool + "/privateEndpointConnections/in-use", worker.EndStatusMismatch},
		{"jira-queue.json", "HSM-3", ticketPool + "/privateEndpointConnections/locked", worker.EndRejected},
		{"servicenow-queue.json", "CHG0000004", "the old one", worker.EndInvalid},
		{"jira-queue.json", "HSM-4", connectionID(0), worker.EndOutOfScope},
	}
	a := newAzure(t, 0, arm.Script{})
	if err := a.ARM.AddPool(arm.Pool{ID: ticketPool, Connections: []arm.Connection{
		{Name: "gone-1", Status: "Disconnected"}, {Name: "gone-2", Status: "Rejected"}, {Name: "gone-3", Status: "Disconnected"}, {Name: "in-use", Status: "Approved"},
		{Name: "locked", Status: "Disconnected", Script: arm.Script{Deletes: []arm.Answer{{Status: 409, Code: "ScopeLocked", Message: "The scope \"tickets\" is locked."}}}},
	}}); err != nil {
		t.Fatal(err)
	}
	readme := ticketFile(t, "README.md")
	subscribe(t, a, readme)
	a.serve(t)
	for range 2 {
		for _, k := range tickets {
			a.post(t, readme, k.file, ticket{k.number, k.connection, "Jané", hostile["quotes"], "https://example.com/" + k.number})
		}
	}
	queue := a.entity(t, defaultQueue)
	if got := queue.Counts().Active; got != len(tickets) {
		t.Fatalf("%d messages in the queue after each of %d was posted twice", got, len(tickets))
	}

	w := a.worker(t, "--allow-scope="+ticketPool)
	lines := call(t, a.env, "events", "--json", "--count", fmt.Sprint(len(tickets)), "--timeout", patience.String())
	events := map[string]string{}
	for line := range strings.Lines(lines) {
		var e ending
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("event %q: %v", line, err)
		}
		events[e.Data.RequestID] = line
	}
	var closed, forPersons int
	for _, k := range tickets {
		var e ending
		if err := json.Unmarshal([]byte(events[k.number]), &e); err != nil {
			t.Errorf("%s has no event", k.number)
			continue
		}
		system, _, _ := strings.Cut(k.file, "-")
		want := deletion.Ticket{System: system, ID: k.number, URL: "https://example.com/" + k.number}
		if e.Data.Outcome != k.outcome || e.Data.Ticket == nil || *e.Data.Ticket != want || e.Data.Reason != hostile["quotes"] {
			t.Errorf("%s ended as\n%s\nwant %s, with its ticket", k.number, events[k.number], k.outcome)
		}
		if k.outcome == worker.EndDeleted || k.outcome == worker.EndAbsent {
			closed++
		} else {
			forPersons++
		}
	}
	for name, want := range map[string]int{"tickets-close": closed, "tickets-person": forPersons} {
		if got := a.entity(t, defaultEvents+"/Subscriptions/"+name).Counts().Active; got != want {
			t.Errorf("%s holds %d events, want %d", name, got, want)
		}
	}
	eventually(t, "nothing is left to do", func() bool { c := queue.Counts(); return c.Active == 0 && c.Scheduled == 0 })
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
	wantClosable(t, events)
}

func (a *azure) entity(t *testing.T, path string) *broker.Entity {
	t.Helper()
	e, err := a.Broker.Entity(path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// filterLine is a rule of the README's; subscribe makes the subscriptions that it describes.
var filterLine = regexp.MustCompile(`--subscription-name (\S+) \\\n +-n (\S+) --filter-type CorrelationFilter --correlation-filter-property (\w+)=(\S+)`)

func subscribe(t *testing.T, a *azure, readme string) {
	t.Helper()
	rules := map[string][]broker.Rule{}
	for _, l := range filterLine.FindAllStringSubmatch(readme, -1) {
		filter := &broker.CorrelationFilter{Properties: map[string]any{l[3]: l[4]}}
		rules[l[1]] = append(rules[l[1]], broker.Rule{Name: l[2], Filter: filter})
	}
	for name, r := range rules {
		if err := a.Broker.CreateSubscription(defaultEvents, broker.SubscriptionConfig{Name: name, Rules: r}); err != nil {
			t.Fatal(err)
		}
	}
}

// brokerPropertiesLine is a header of the README's, for the one system or the other.
var brokerPropertiesLine = regexp.MustCompile(`(?m)^BrokerProperties: (.*)$`)

// post sends a ticket to the queue as the README says of way B; an event goes as Event Grid is to deliver it.
func (a *azure) post(t *testing.T, readme, file string, k ticket) {
	t.Helper()
	system, _, _ := strings.Cut(file, "-")
	syntax := map[string]string{"servicenow": "${", "jira": "{{"}[system]
	headers := brokerPropertiesLine.FindAllStringSubmatch(readme, -1)
	at := slices.IndexFunc(headers, func(h []string) bool { return strings.Contains(h[1], syntax) })
	if at < 0 {
		t.Fatalf("the README has no BrokerProperties with %s", syntax)
	}
	template := ticketFile(t, file)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+a.addr+"/"+defaultQueue+"/messages", strings.NewReader(filled(t, template, k, inJSON)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer any")
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("BrokerProperties", filled(t, headers[at][1], k, inJSON))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Authority.Pool()}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s %s, want 201", k.number, response.Status, text)
	}
}

// eventField is a field of the event in a body of the closing flow.
var eventField = regexp.MustCompile(`@\{body\('Event'\)((?:\?\['\w+'\])+)\}`)

// wantClosable fills the closing bodies in with each event, as a Logic App does. Every field that they read is in some event.
func wantClosable(t *testing.T, events map[string]string) {
	t.Helper()
	unread := map[string]bool{}
	for _, file := range []string{"servicenow-close.json", "servicenow-note.json", "jira-comment.json", "jira-close.json"} {
		template := ticketFile(t, file)
		for _, f := range eventField.FindAllString(template, -1) {
			unread[f] = true
		}
		for number, text := range events {
			var event any
			if err := json.Unmarshal([]byte(text), &event); err != nil {
				t.Fatal(err)
			}
			body := eventField.ReplaceAllStringFunc(template, func(field string) string {
				value := valueAt(event, eventField.FindStringSubmatch(field)[1])
				if value == nil {
					return ""
				}
				unread[field] = false
				return inJSON(fmt.Sprint(value))
			})
			if !json.Valid([]byte(body)) || strings.Contains(body, "@{") {
				t.Errorf("%s for %s:\n%s", file, number, body)
			}
		}
	}
	for field, missing := range unread {
		if missing {
			t.Errorf("%s is in no event", field)
		}
	}
}

// valueAt is what ?['data']?['outcome'] and the like find, nil if there is nothing.
func valueAt(event any, path string) any {
	for step := range strings.SplitSeq(strings.Trim(path, "?[]'"), `']?['`) {
		object, _ := event.(map[string]any)
		event = object[step]
	}
	return event
}
