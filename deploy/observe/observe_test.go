// Package observe_test holds what is in this folder against what the worker emits, by Prometheus's own parser and engine. It is a module
// of its own, since the product needs nothing of Prometheus's.
package observe_test

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
)

func loadRules(t *testing.T) []rulefmt.Rule {
	groups, errs := rulefmt.ParseFile("alerts.yaml", false, model.UTF8Validation, promQL, slog.New(slog.DiscardHandler))
	if errs != nil {
		t.Fatal(errs)
	}
	var all []rulefmt.Rule
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

var labelInText = regexp.MustCompile(`\$labels\.(\w+)`)

// TestRulesAskForWhatThereIs: every metric, label and label's value in a rule is one that the worker emits.
func TestRulesAskForWhatThereIs(t *testing.T) {
	known := loadMetrics(t)
	for _, r := range loadRules(t) {
		has, err := known.check(r.Expr)
		if err != nil {
			t.Errorf("%s%s: %v", r.Record, r.Alert, err)
			continue
		}
		if r.Record != "" {
			known[r.Record] = family{"gauge", has}
			continue
		}
		for _, what := range []string{"summary", "description"} {
			if r.Annotations[what] == "" {
				t.Errorf("%s has no %s", r.Alert, what)
			}
			for _, found := range labelInText.FindAllStringSubmatch(r.Annotations[what], -1) {
				if _, ok := has[found[1]]; !ok {
					t.Errorf("%s: its %s names the label %s, which its expression does not give", r.Alert, what, found[1])
				}
			}
		}
		if severity := r.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s has the severity %q, expected critical or warning", r.Alert, severity)
		}
	}
}

// TestRunbook: every alert leads to a heading, and every heading is an alert's; so is every heading in queries.md that is in code.
func TestRunbook(t *testing.T) {
	const runbook = "README.md#"
	var alerts []string
	for _, r := range loadRules(t) {
		if r.Alert == "" {
			continue
		}
		alerts = append(alerts, r.Alert)
		if want := runbook + strings.ToLower(r.Alert); r.Annotations["runbook"] != want {
			t.Errorf("%s leads to %q, expected %q", r.Alert, r.Annotations["runbook"], want)
		}
	}
	for _, file := range []string{"../../README.md", "queries.md"} {
		if found := alertHeadings(t, file); !slices.Equal(found, alerts) {
			t.Errorf("%s has the headings %q, expected the alerts, in order: %q", file, found, alerts)
		}
	}
}

var alertHeading = regexp.MustCompile(`(?m)^#+ (Hsmsweep[A-Za-z]+)$`)

func alertHeadings(t *testing.T, file string) (found []string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, heading := range alertHeading.FindAllStringSubmatch(string(text), -1) {
		found = append(found, heading[1])
	}
	return found
}

var (
	kqlBlock   = regexp.MustCompile("(?s)```kusto\n(.*?)```")
	kqlField   = regexp.MustCompile(`\bline\.(\w+)`)
	kqlMessage = regexp.MustCompile(`\bmsg (?:==|startswith|has) "([^"]+)"`)
)

// TestQueriesAskForWhatIsLogged: the fields and messages of log lines in queries.md are in the worker's code.
func TestQueriesAskForWhatIsLogged(t *testing.T) {
	text, err := os.ReadFile("queries.md")
	if err != nil {
		t.Fatal(err)
	}
	code := productCode(t)
	blocks := kqlBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Fatal("queries.md has no query")
	}
	written := []string{"msg", "level", "time"} // by slog
	for _, block := range blocks {
		for _, found := range kqlField.FindAllStringSubmatch(block[1], -1) {
			if field := found[1]; !slices.Contains(written, field) && !strings.Contains(code, `"`+field+`"`) {
				t.Errorf("no log line has a field %s", field)
			}
		}
		for _, found := range kqlMessage.FindAllStringSubmatch(block[1], -1) {
			if !strings.Contains(code, found[1]) {
				t.Errorf("no log line says %q", found[1])
			}
		}
	}
}

// productCode is the source that logs.
func productCode(t *testing.T) string {
	var code strings.Builder
	for _, folder := range []string{"worker", "queue", "cmd/hsmsweep"} {
		err := filepath.WalkDir(filepath.Join("../..", folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			code.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return code.String()
}
