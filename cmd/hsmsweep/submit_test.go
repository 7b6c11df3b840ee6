package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator"
	"hsmsweep/internal/emulator/arm"
)

// sampleEndpoint is a private endpoint that guards and selectors name.
const sampleEndpoint = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/net/providers/Microsoft.Network/privateEndpoints/pe1"

// A submitted is what the command said.
type submitted struct {
	code     int
	out, err string
}

// submitTo runs the command in this process, against an emulator's Service Bus.
func submitTo(t *testing.T, addr, stdin string, args ...string) submitted {
	t.Helper()
	var out, err bytes.Buffer
	code := run(t.Context(), append([]string{"submit", "--connection-string=" + emulator.ConnectionString(addr)}, args...), streams{strings.NewReader(stdin), &out, &err})
	return submitted{code, out.String(), err.String()}
}

// queued are the messages of the request queue, oldest first.
func queued(t *testing.T, addr string) []*azservicebus.ReceivedMessage {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(emulator.ConnectionString(addr), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeClient(t.Context(), client)
	receiver, err := client.NewReceiverForQueue(defaultQueue, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []*azservicebus.ReceivedMessage
	for {
		some, err := receiver.PeekMessages(t.Context(), 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			return all
		}
		all = append(all, some...)
	}
}

func TestSubmitCSV(t *testing.T) {
	t.Parallel()
	id := `"connectionId":"` + connectionID(0) + `"`
	for name, c := range map[string]struct {
		csv  string
		want []string // bodies
	}{
		"every column": {
			"connectionId,privateEndpointId,status,requestId,reason,requestedBy,ticketSystem,ticketId,ticketUrl,notBefore,dryRun,force\n" +
				connectionID(0) + "," + sampleEndpoint + ",Rejected Disconnected,CHG1,\"retired, \"\"for good\"\"\",jane,servicenow,CHG0,https://t/1,2026-01-31T08:00:00Z,TRUE,false\n",
			[]string{`{` + id + `,"dryRun":true,"force":false,"notBefore":"2026-01-31T08:00:00Z","privateEndpointId":"` + sampleEndpoint + `","reason":"retired, \"for good\"",` +
				`"requestId":"CHG1","requestedBy":"jane","status":["Rejected","Disconnected"],"ticket":{"id":"CHG0","system":"servicenow","url":"https://t/1"}}`},
		},
		"as Excel writes it": {
			"\xef\xbb\xbfCONNECTIONID;Status;Ticket.ID\r\n" + connectionID(0) + ";\"Rejected;Pending\";CHG1\r\n;;\r\n\r\n",
			[]string{`{` + id + `,"status":["Rejected","Pending"],"ticket":{"id":"CHG1"}}`},
		},
		"selectors": {
			"managedHsmId,privateEndpointId,status\n" + samplePool + ",,Disconnected\n," + sampleEndpoint + ",Pending\n",
			[]string{`{"managedHsmId":"` + samplePool + `","status":["Disconnected"]}`, `{"privateEndpointId":"` + sampleEndpoint + `","status":["Pending"]}`},
		},
		"an empty cell is no field": {
			"reason,force,connectionId,ticketId\n,," + connectionID(0) + ",\n\"two\nlines\",, " + connectionID(0) + " ,CHG1\n",
			[]string{`{` + id + `}`, `{` + id + `,"reason":"two\nlines","ticket":{"id":"CHG1"}}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := startAzure(t, 1, arm.Script{})
			got := submitTo(t, a.addr, c.csv, "--csv=-")
			if got.code != 0 || got.err != "" || strings.Count(got.out, "submitted ") != len(c.want) {
				t.Errorf("got %+v, want %d requests submitted", got, len(c.want))
			}
			var bodies []string
			for _, m := range queued(t, a.addr) {
				bodies = append(bodies, string(m.Body))
			}
			if diff := cmp.Diff(c.want, bodies); diff != "" {
				t.Errorf("bodies (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSubmitRefuses has one bad row of each kind below a good one: each is told by its line, and nothing is sent.
func TestSubmitRefuses(t *testing.T) {
	t.Parallel()
	good := connectionID(0)
	a := startAzure(t, 1, arm.Script{})
	for name, c := range map[string]struct {
		args  []string
		input string
		want  []string // patterns, one for each line of stderr
	}{
		"rows": {[]string{"--csv=-"}, "connectionId,privateEndpointId,status,notBefore,dryRun,force,requestId\n" +
			good + "," + sampleEndpoint + ",Pending,2026-01-31T08:00:00Z,true,,\n" +
			"nonsense," + sampleEndpoint + ",Pending,2026-01-31T08:00:00Z,true,,\n" +
			good + ",,,,,,\n" +
			"," + sampleEndpoint + ",Gone,2026-01-31T08:00:00Z,true,,\n" +
			good + "," + sampleEndpoint + ",Gone,tomorrow,true,,\n" +
			good + "," + sampleEndpoint + ",;,2026-01-31T08:00:00Z,false,,\n" +
			good + "," + sampleEndpoint + ",Pending,2026-01-31T08:00:00Z,yes,1,\n" +
			good + "," + sampleEndpoint + ",Pending,2026-01-31T08:00:00Z,true,\n" +
			good + "," + sampleEndpoint + ",Pending,2026-01-31T08:00:00Z,true,,,\n" +
			good + "," + sampleEndpoint + ",Pending,2026-01-31T08:00:00Z,true,,\"a\"b\n" +
			good + "," + sampleEndpoint + ",Pending,2026-01-31T08:00:00Z,true,,M\xfcller\n" +
			good + "," + sampleEndpoint + ",Pending,2026-01-31T08:00:00Z,true,," + strings.Repeat("1", 129) + "\n" +
			good + "," + sampleEndpoint + ",Pending,2026-01-31T08:00:00Z,true,,\"open\n",
			[]string{
				`^hsmsweep: line 3: connectionId: "nonsense" is not an ARM resource id`,
				`^line 4: privateEndpointId: is empty.*; status: is empty.*; notBefore: is empty.*; dryRun: is empty, .*fill it in, or remove the column$`,
				`^line 5: connectionId: is empty, and so every connection of the privateEndpointId would be selected`,
				`^line 6: notBefore: expected an RFC 3339 time`,
				`^line 7: status: names no state`,
				`^line 8: dryRun: is "yes", expected true or false; force: is "1", expected true or false$`,
				`^line 9: has 6 cells, and the header 7$`,
				`^line 10: has 8 cells, and the header 7$`,
				`^line 11: extraneous or missing " in quoted-field$`,
				`^line 12: requestId: is not UTF-8`,
				`^line 13: requestId: has 129 characters`,
				`^line 14: extraneous or missing " in quoted-field$`,
			}},
		"header": {[]string{"--csv=-"}, "\nconnectionId,statuss,ticketId,Ticket.id,\n" + good + ",Pending,1,1,\n",
			[]string{`^hsmsweep: line 2: "statuss" is not a column; the column ticketId is there twice; "" is not a column; the columns are connectionId, privateEndpointId,.*, force$`}},
		"no selector": {[]string{"--csv=-"}, "status,reason\nPending,none\n", []string{`line 1: no column says what to delete`}},
		"no row":      {[]string{"--csv=-"}, "connectionId\n\n", []string{`no row below its header`}},
		"UTF-16":      {[]string{"--csv=-"}, "\xff\xfec\x00o\x00n\x00", []string{`save it as CSV UTF-8`}},
		"large":       {[]string{"--csv=-"}, "connectionId,reason\n" + good + "," + strings.Repeat("x", longestRow) + "\n", []string{`line 2: makes a request of \d+ bytes`}},
		"too large for the queue": {[]string{"--csv=-"}, "connectionId,reason\n" + good + ",small\n" + good + "," + strings.Repeat("x", longestRow-300) + "\n",
			[]string{`line 3: the message is too large`}},
		"JSON lines": {nil, `{"connectionId":"` + good + `"}` + "\n\n" + `{"connectionId":"` + good + `","statuss":[]}` + "\n" + `{"connectionId":` + "\n" +
			`{"specversion":"1.0","type":"x","id":"1","source":"s","data":{"connectionId":"nonsense"}}` + "\n" + strings.Repeat("x", longestRow+1),
			[]string{`^hsmsweep: line 3: statuss: no such field`, `^line 4: not valid JSON`, `^line 5: connectionId: "nonsense"`, `^line 6: is longer than \d+ bytes`}},
	} {
		t.Run(name, func(t *testing.T) {
			got := submitTo(t, a.addr, c.input, c.args...)
			lines := strings.Split(strings.TrimSuffix(got.err, "\n"), "\n")
			if got.code != exitFailure || got.out != "" || len(lines) != len(c.want) {
				t.Fatalf("got %+v, want exit code %d, nothing on stdout and %d lines on stderr", got, exitFailure, len(c.want))
			}
			for i, want := range c.want {
				if !regexp.MustCompile(want).MatchString(lines[i]) {
					t.Errorf("line %d of stderr is\n%s\nwant %s", i+1, lines[i], want)
				}
			}
			if n := len(queued(t, a.addr)); n > 0 {
				t.Errorf("%d messages were sent, want none", n)
			}
		})
	}
}

// TestSubmitAgain sends a file twice, and what is its like with the columns in another order: the queue has each row once, and a
// row that stands twice in the file twice.
func TestSubmitAgain(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 1, arm.Script{})
	csv := "connectionId,status\n" + connectionID(0) + ",Pending\n" + connectionID(1) + ",Pending\n" + connectionID(0) + ",Pending\n"
	first := submitTo(t, a.addr, csv, "--csv=-", "--json")
	if again := submitTo(t, a.addr, csv, "--csv=-"); first.code != 0 || again.code != 0 || strings.Count(again.out, "submitted ") != 3 {
		t.Fatalf("got %+v and %+v, want 3 requests submitted by each", first, again)
	}
	if turned := submitTo(t, a.addr, "status,connectionId\nPending,"+connectionID(1)+"\n", "--csv=-"); turned.code != 0 {
		t.Fatalf("got %+v", turned)
	}
	var told, held []string
	for line := range strings.Lines(first.out) {
		var s submission
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		told = append(told, s.MessageID)
	}
	for _, m := range queued(t, a.addr) {
		held = append(held, m.MessageID)
	}
	if diff := cmp.Diff(told, held); diff != "" || len(held) != 3 {
		t.Errorf("message ids (-told +in the queue), want 3:\n%s", diff)
	}
	if ok := regexp.MustCompile(`^submit-[0-9a-f]{32}$`).MatchString(held[0]); !ok || held[2] != held[0]+"-2" {
		t.Errorf("message ids are %q, want submit- and 32 digits, and -2 for the row that is there again", held)
	}

	for range 2 {
		if got := submitTo(t, a.addr, "", connectionID(0)); got.code != 0 {
			t.Fatalf("got %+v", got)
		}
	}
	if n := len(queued(t, a.addr)); n != 5 {
		t.Errorf("the queue has %d messages after one id was submitted twice on purpose, want 5", n)
	}
}

// TestSubmitMany sends thousands of lines in batches. Each is there once, in order, with a trace of its own.
func TestSubmitMany(t *testing.T) {
	t.Parallel()
	const n = 5000
	a := startAzure(t, 1, arm.Script{})
	var input strings.Builder
	for i := range n {
		fmt.Fprintf(&input, `{"requestId":"r%d","connectionId":"%s"}`+"\n", i, connectionID(i))
	}
	got := submitTo(t, a.addr, input.String())
	if got.code != 0 || got.err != "" || strings.Count(got.out, "submitted r") != n {
		t.Fatalf("exit code %d, %d bytes on stdout, stderr %q; want %d requests submitted", got.code, len(got.out), got.err, n)
	}
	messages := queued(t, a.addr)
	if len(messages) != n {
		t.Fatalf("the queue has %d messages, want %d", len(messages), n)
	}
	traces := map[string]bool{}
	for i, m := range messages {
		if want := fmt.Sprintf(`{"requestId":"r%d",`, i); !strings.HasPrefix(string(m.Body), want) {
			t.Fatalf("message %d is %s, want %s…", i, m.Body, want)
		}
		for _, property := range []string{"traceparent", "Diagnostic-Id"} {
			trace, _ := m.ApplicationProperties[property].(string)
			traces[trace] = true
		}
	}
	if len(traces) != n || traces[""] {
		t.Errorf("%d messages have %d traces, want one for each", n, len(traces))
	}
}

// TestSubmitFlags looks at what the flags make of a connection id and of each selector.
func TestSubmitFlags(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 1, arm.Script{})
	var want, got []string
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--managed-hsm-id=" + samplePool, "--status=Pending,Rejected", "--request-id=CHG1"}, `{"managedHsmId":"` + samplePool + `","requestId":"CHG1","status":["Pending","Rejected"]}`},
		{[]string{"--private-endpoint-id=" + sampleEndpoint, "--dry-run"}, `{"dryRun":true,"privateEndpointId":"` + sampleEndpoint + `"}`},
		{[]string{"--private-endpoint-id=" + sampleEndpoint, "--force", connectionID(0)}, `{"connectionId":"` + connectionID(0) + `","force":true,"privateEndpointId":"` + sampleEndpoint + `"}`},
	} {
		if s := submitTo(t, a.addr, "\n", c.args...); s.code != 0 || s.err != "" || strings.Count(s.out, "submitted ") != 1 {
			t.Errorf("%v: %+v, want one request submitted", c.args, s)
		}
		want = append(want, c.want)
	}
	for _, m := range queued(t, a.addr) {
		got = append(got, string(m.Body))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bodies (-want +got):\n%s", diff)
	}
}

func TestTells(t *testing.T) {
	for _, c := range []struct {
		out, err, json bool
		n              int
		lines, bar     bool
	}{
		{n: 1000, lines: true},
		{out: true, n: 1000, lines: true},
		{err: true, n: 1000, lines: true, bar: true},
		{out: true, err: true, n: 1000, bar: true},
		{out: true, err: true, n: 10, lines: true},
		{err: true, json: true, n: 1000, lines: true, bar: true},
		{out: true, err: true, json: true, n: 1000, lines: true},
	} {
		if lines, bar := tells(c.out, c.err, c.json, c.n); lines != c.lines || bar != c.bar {
			t.Errorf("%+v: lines %t, bar %t", c, lines, bar)
		}
	}
}
