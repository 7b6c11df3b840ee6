package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hsmsweep/deletion"
	"hsmsweep/internal/schema"
	"hsmsweep/worker"
)

// ticketFile reads a file of deploy/tickets.
func ticketFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/tickets", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A ticket is what the two systems know.
type ticket struct{ number, connection, requestedBy, reason, url string }

// values are a ticket's by the names of the placeholders.
func (k ticket) values() map[string]string {
	return map[string]string{
		"connection_id": k.connection, "request_id": k.number, "requested_by": k.requestedBy, "reason": k.reason, "number": k.number, "url": k.url,
		"issue.customfield_10100": k.connection, "issue.key": k.number, "initiator.displayName": k.requestedBy, "issue.summary": k.reason, "issue.url": k.url,
	}
}

var placeholder = regexp.MustCompile(`\$\{(\w+)\}|\{\{([\w.]+?)(\.trim\(\))?(\.jsonEncode)?\}\}`)

// filled puts a ticket into a template as its system does: ServiceNow's values come from the README's script, which trims and
// escapes all of them; Jira does what the placeholder says.
func filled(t *testing.T, template string, k ticket, escape func(string) string) string {
	t.Helper()
	values := k.values()
	return placeholder.ReplaceAllStringFunc(template, func(found string) string {
		part := placeholder.FindStringSubmatch(found)
		ofServiceNow := part[1] != ""
		value, ok := values[part[1]+part[2]]
		if !ok {
			t.Fatalf("%s: no value for this placeholder", found)
		}
		if ofServiceNow || part[3] != "" {
			value = strings.TrimSpace(value)
		}
		if ofServiceNow || part[4] != "" {
			value = escape(value)
		}
		return value
	})
}

// inJSON escapes text for the inside of a JSON string.
func inJSON(text string) string {
	var quoted bytes.Buffer
	e := json.NewEncoder(&quoted)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // text always encodes
	return strings.TrimSuffix(strings.TrimPrefix(quoted.String(), `"`), "\"\n")
}

var requestFiles = []string{"servicenow-queue.json", "servicenow-eventgrid.json", "jira-queue.json", "jira-eventgrid.json"}

// hostile are texts that a person may put into a ticket's summary.
var hostile = map[string]string{
	"quotes":      `the "old" pool, C:\pools\old`,
	"lines":       "one\r\n\ttwo\u2028three\x00\x1f",
	"emoji":       "bye \U0001f44b\U0001f3fd <b>&amp;</b> ${number} {{issue.key}} %7B",
	"5,000":       strings.Repeat("ü", 5000),
	"a new field": `x","dryRun":true,"force":true,"status":["Approved"],"requestedBy":"the boss`,
	"the end":     `x"}} {"`,
}

// TestTicketBodies has the worker check each body, and reads back what was put in.
func TestTicketBodies(t *testing.T) {
	connection, err := deletion.ParseConnectionID(connectionID(0))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"plain": "payments-dev retired", "nothing": ""}
	for name, text := range hostile {
		texts[name] = text
	}
	for _, file := range requestFiles {
		template := ticketFile(t, file)
		if !json.Valid([]byte(template)) {
			t.Errorf("%s is no JSON before it is filled in, so that no editor can check it", file)
		}
		system, _, _ := strings.Cut(file, "-")
		for name, text := range texts {
			text = strings.TrimSpace(text)
			k := ticket{"CHG0012345-2", " " + connectionID(0) + "\n", text, text, text}
			body := filled(t, template, k, inJSON)
			if err := worker.Check([]byte(body)); err != nil {
				t.Errorf("%s, %s: %v", file, name, err)
				continue
			}
			if got := worker.RequestIDOf([]byte(body), ""); got != k.number {
				t.Errorf("%s, %s: goes by %q, want %q", file, name, got, k.number)
			}
			want := deletion.Request{
				Connection: connection, RequestID: k.number, Statuses: []deletion.LinkStatus{"Disconnected", "Rejected"},
				Reason: text, RequestedBy: text, Ticket: &deletion.Ticket{System: system, ID: k.number, URL: text},
			}
			if got, err := deletion.DecodeRequest(nativeOf(t, body)); err != nil {
				t.Errorf("%s, %s: %v", file, name, err)
			} else if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", file, name, diff)
			}
		}
	}
}

// nativeOf is a body's request, out of its CloudEvent if it has one.
func nativeOf(t *testing.T, body string) []byte {
	t.Helper()
	var event struct{ Data json.RawMessage }
	if err := json.Unmarshal([]byte(body), &event); err != nil {
		t.Fatal(err)
	}
	if event.Data == nil {
		return []byte(body)
	}
	return event.Data
}

// TestTicketsNotEscaped shows what the README warns of: a text that is put in as it is breaks the body, and the worker refuses it.
func TestTicketsNotEscaped(t *testing.T) {
	for _, file := range requestFiles {
		template := ticketFile(t, file)
		for _, name := range []string{"quotes", "lines", "a new field", "the end"} {
			k := ticket{"CHG1", connectionID(0), "somebody", hostile[name], "https://example.com"}
			body := filled(t, template, k, func(text string) string { return text })
			if err := worker.Check([]byte(body)); err == nil {
				t.Errorf("%s, %s: taken:\n%s", file, name, body)
			}
		}
	}
}

// TestTicketOutcomes compares the README's table with the outcomes that there are.
func TestTicketOutcomes(t *testing.T) {
	_, table, _ := strings.Cut(ticketFile(t, "README.md"), "| `data.outcome` |")
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(table, -1) {
		got = append(got, row[1])
	}
	var want []string
	for _, outcome := range schema.Field(schema.Field(worker.EventSchema(), "data"), "outcome").Enum {
		want = append(want, fmt.Sprint(outcome))
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}
