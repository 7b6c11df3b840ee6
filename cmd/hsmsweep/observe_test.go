package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

// listed is what deploy/observe/metrics.txt says of a metric: its type, and its labels with their values, of which * is any text.
type listed struct {
	kind   string
	labels map[string][]string
}

func listedMetrics(t *testing.T) map[string]listed {
	t.Helper()
	text, err := os.ReadFile("../../deploy/observe/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	all, name := map[string]listed{}, ""
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case strings.HasPrefix(line, " "):
			all[name].labels[strings.TrimSuffix(words[0], "?")] = words[1:]
		default:
			name = words[0]
			all[name] = listed{words[1], map[string][]string{}}
		}
	}
	return all
}

// checkListed: what the process emits is what dashboards and alerts are tested against.
func checkListed(t *testing.T, emitted map[string]*dto.MetricFamily) {
	t.Helper()
	all := listedMetrics(t)
	for name, family := range emitted {
		if name == "target_info" { // the resource
			continue
		}
		known, ok := all[name]
		if kind := strings.ToLower(family.GetType().String()); !ok || kind != known.kind {
			t.Errorf("deploy/observe/metrics.txt has no %s %s", kind, name)
			continue
		}
		for _, series := range family.Metric {
			for _, l := range series.Label {
				values := known.labels[l.GetName()]
				if !slices.Contains(values, "*") && !slices.Contains(values, l.GetValue()) {
					t.Errorf("deploy/observe/metrics.txt has no %s of %s=%q", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
}
