package worker_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"golang.org/x/tools/txtar"

	"hsmsweep/internal/schema"
	"hsmsweep/internal/schema/schematest"
	"hsmsweep/worker"
)

// bodies are those of some archives in testdata/bodies, by name. A file's last line end is the archive's, not the body's; in a
// file whose name ends in .quoted the body is a Go string.
func bodies(t testing.TB, pattern string) map[string]string {
	t.Helper()
	archives, err := filepath.Glob("testdata/bodies/" + pattern)
	if err != nil || len(archives) == 0 {
		t.Fatalf("no bodies in %s: %v", pattern, err)
	}
	found := map[string]string{}
	for _, file := range archives {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			body := strings.TrimSuffix(string(f.Data), "\n")
			name, quoted := strings.CutSuffix(f.Name, ".quoted")
			if quoted {
				if body, err = strconv.Unquote(body); err != nil {
					t.Fatalf("%s: %s: %v", file, f.Name, err)
				}
			}
			if _, twice := found[name]; twice {
				t.Fatalf("%s: %s is there twice", file, name)
			}
			found[name] = body
		}
	}
	return found
}

// hostileBodies are those of the archives, and some that nobody wants to scroll over.
func hostileBodies(t testing.TB) map[string]string {
	hostile := bodies(t, "hostile-*.txtar")
	maps.Copy(hostile, map[string]string{
		"a reason of 20,000 arrays":               strings.Replace(request("pec"), "}", `,"reason":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+"}", 1),
		"tickets in tickets, 5,000 deep":          strings.Repeat(`{"ticket":`, 5_000) + "1" + strings.Repeat("}", 5_000),
		"data of 20,000 objects beside a subject": about(strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)),
		"a name of 100 KB":                        request(strings.Repeat("x", 100_000)),
		"a group of dots, 10 KB":                  strings.Replace(request("pec"), "sample-group", strings.Repeat(".", 10_000), 1),
		"an unknown field of 50 KB":               strings.Replace(request("pec"), "}", `,"`+strings.Repeat("x", 50_000)+`":1}`, 1),
		"a number of 10,000 digits for a dry run": strings.Replace(request("pec"), "}", `,"dryRun":`+strings.Repeat("9", 10_000)+"}", 1),
		"a state that is none, a thousand times":  strings.Replace(request("pec"), "}", `,"status":[`+strings.Repeat(`"Gone",`, 1_000)+`"Gone"]}`, 1),
	})
	return hostile
}

// about is a CloudEvent about the connection pec with some data.
func about(data string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"%s/privateEndpointConnections/pec","data":%s}`, poolID, data)
}

// TestBodiesAndSchema has the request's schema judge every body, and never let one pass that a worker refuses.
func TestBodiesAndSchema(t *testing.T) {
	judge := schematest.Compile(t, worker.RequestSchema())
	for name, body := range bodies(t, "golden.txtar") {
		if err := judge([]byte(body)); err != nil {
			t.Errorf("%s: refused: %v", name, err)
		}
	}
	for name, body := range hostileBodies(t) {
		if judge([]byte(body)) == nil {
			t.Errorf("%s: passes: %s", name, body)
		}
		if worker.Check([]byte(body)) == nil {
			t.Errorf("%s: a worker would take it: %s", name, body)
		}
	}
}

// TestHostileBodies sends every hostile body to one worker: it ends in one event that says what is wrong, and in the dead-letter
// queue as it came, and ARM hears nothing of it. The golden file is meant to be read as a ticket's author would.
func TestHostileBodies(t *testing.T) {
	hostile, described := hostileBodies(t), worker.EventSchema()
	var told bytes.Buffer
	inVirtualTime(t, seed(""), func(t *testing.T, s *system) {
		r := s.work()
		for i, name := range slices.Sorted(maps.Keys(hostile)) {
			s.submit(fmt.Sprint("m", i), hostile[name])
			e := s.events(1)[0]
			if e.Type != "Hsmsweep.ConnectionDeleteFailed" || e.Data.Outcome != worker.EndInvalid || e.Data.Error == nil {
				t.Fatalf("%s: ended as %s %+v, want invalid", name, e.Data.Outcome, e.Data.Error)
			}
			for _, attribute := range attributes(t, e.received.Body) {
				if schema.Field(described, attribute) == nil {
					t.Errorf("%s: its event has an attribute %s, which the schema does not know", name, attribute)
				}
			}
			dead := s.takeAway(azservicebus.SubQueueDeadLetter)
			if string(dead.Body) != hostile[name] {
				t.Errorf("%s: the dead letter's body became %q", name, dead.Body)
			}
			if code, message := deref(dead.DeadLetterReason), deref(dead.DeadLetterErrorDescription); code != e.Data.Error.Code || message != e.Data.Error.Message {
				t.Errorf("%s: dead-lettered as %s: %s, the event says %+v", name, code, message, e.Data.Error)
			}
			fmt.Fprintf(&told, "%s\n\t%s: %s\n", name, e.Data.Error.Code, e.Data.Error.Message)
		}
		r.stop()
		s.wantHealthy()
		s.wantNoMoreEvents()
		if c := s.counts(); c.DeadLetter != 0 {
			t.Errorf("%d more dead letters", c.DeadLetter)
		}
		if asked := s.ARM.Exchanges(); len(asked) != 0 {
			t.Errorf("ARM was asked: %+v", asked)
		}
	})
	worker.Golden(t, "testdata/bodies/hostile.golden", told.Bytes())
}

// attributes are the names in an event.
func attributes(t *testing.T, event []byte) []string {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(event, &fields); err != nil {
		t.Fatal(err)
	}
	return slices.Collect(maps.Keys(fields))
}
