package observe_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

// scenarios are as much of promtool's format for tests of rules as alerts_test.yaml uses.
type scenarios struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []scenario     `yaml:"tests"`
}

type scenario struct {
	Name        string         `yaml:"name"`
	Interval    model.Duration `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	Expectations []struct {
		Expr     string         `yaml:"expr"`
		EvalTime model.Duration `yaml:"eval_time"`
		Samples  []struct {
			Labels string  `yaml:"labels"`
			Value  float64 `yaml:"value"`
		} `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

// TestAlerts evaluates the rules over hand-made series, by Prometheus's own engine: what promtool test rules does.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all scenarios
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true) // what is left out here must not be taken for tested
	if err := decoder.Decode(&all); err != nil {
		t.Fatal(err)
	}
	fired := map[string]bool{}
	for _, s := range all.Tests {
		t.Run(s.Name, func(t *testing.T) { s.run(t, all, fired) })
	}
	for _, r := range loadRules(t) {
		if r.Alert != "" && !fired[r.Alert] {
			t.Errorf("alerts_test.yaml has no test in which %s fires", r.Alert)
		}
	}
}

// run evaluates the rules until each expectation's time, and notes which alerts fired.
func (s scenario) run(t *testing.T, all scenarios, fired map[string]bool) {
	suite, err := promqltest.NewLazyLoader(s.load(), promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	defer suite.Close()
	groups, errs := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:    rules.EngineQueryFunc(suite.QueryEngine(), suite.Storage()),
		AppendableV2: suite.Storage(),
		Context:      t.Context(),
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Logger:       slog.New(slog.DiscardHandler),
		Parser:       promQL,
	}).LoadGroups(time.Duration(all.EvaluationInterval), labels.EmptyLabels(), "", nil, false, all.RuleFiles...)
	if errs != nil {
		t.Fatal(errs)
	}
	start := time.Unix(0, 0).UTC()
	next := start
	for _, want := range s.Expectations {
		until := start.Add(time.Duration(want.EvalTime))
		for ; !next.After(until); next = next.Add(time.Duration(all.EvaluationInterval)) {
			evaluate(t, suite, groups, next)
		}
		got := query(t, suite, want.Expr, until)
		expected := map[string]float64{}
		for _, sample := range want.Samples {
			expected[metric(t, sample.Labels).String()] = sample.Value
		}
		if !maps.Equal(got, expected) {
			t.Errorf("after %s, %s\n got %s\nwant %s", want.EvalTime, want.Expr, listed(got), listed(expected))
		}
		for name := range got {
			fired[metric(t, name).Get(labels.AlertName)] = true
		}
	}
}

// load is the input series as a command of Prometheus's test language.
func (s scenario) load() string {
	var b strings.Builder
	fmt.Fprintf(&b, "load %s\n", s.Interval)
	for _, in := range s.InputSeries {
		fmt.Fprintf(&b, "  %s %s\n", in.Series, in.Values)
	}
	return b.String()
}

func evaluate(t *testing.T, suite *promqltest.LazyLoader, groups map[string]*rules.Group, at time.Time) {
	suite.WithSamplesTill(at, func(err error) {
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			for _, r := range g.AlertingRules() {
				r.SetRestored(true) // else there is no ALERTS
			}
			g.Eval(suite.Context(), at)
			for _, r := range g.Rules() {
				if err := r.LastError(); err != nil {
					t.Fatalf("%s at %s: %v", r.Name(), at, err)
				}
			}
		}
	})
}

// query is what an expression gives: values by series.
func query(t *testing.T, suite *promqltest.LazyLoader, expr string, at time.Time) map[string]float64 {
	q, err := suite.QueryEngine().NewInstantQuery(suite.Context(), suite.Queryable(), nil, expr, at)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	result := q.Exec(suite.Context())
	vector, err := result.Vector()
	if err != nil {
		t.Fatal(err)
	}
	return bySeries(vector)
}

func bySeries(vector promql.Vector) map[string]float64 {
	values := make(map[string]float64, len(vector))
	for _, sample := range vector {
		values[sample.Metric.String()] = sample.F
	}
	return values
}

func metric(t *testing.T, text string) labels.Labels {
	parsed, err := promQL.ParseMetric(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return parsed
}

func listed(samples map[string]float64) string {
	if len(samples) == 0 {
		return "nothing"
	}
	lines := make([]string, 0, len(samples))
	for _, name := range slices.Sorted(maps.Keys(samples)) {
		lines = append(lines, fmt.Sprintf("%s %v", name, samples[name]))
	}
	return strings.Join(lines, "\n     ")
}

var promQL = parser.NewParser(parser.Options{})
