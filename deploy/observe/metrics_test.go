package observe_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// A labelSet is labels with the values that each may have; "" where it may be absent, nil where any text may be there.
type labelSet map[string][]string

// A family is what metrics.txt says of a metric, or what a recording rule makes.
type family struct {
	kind   string // counter, gauge or histogram
	labels labelSet
}

// metrics are all that a query may ask for, by name.
type metrics map[string]family

// scraped are the labels that Prometheus adds to all series.
var scraped = labelSet{"job": nil, "instance": nil}

// loadMetrics reads metrics.txt.
func loadMetrics(t *testing.T) metrics {
	text, err := os.ReadFile("metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	all, name := metrics{}, ""
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case strings.HasPrefix(line, " "):
			label, optional := strings.CutSuffix(words[0], "?")
			values := words[1:]
			switch {
			case slices.Contains(values, "*"):
				values = nil
			case optional:
				values = append(values, "")
			}
			all[name].labels[label] = values
		default:
			name = words[0]
			all[name] = family{words[1], maps.Clone(scraped)}
		}
	}
	return all
}

// series finds what a query calls by a name: a metric, or a histogram's parts.
func (m metrics) series(name string) (kind string, _ labelSet, _ error) {
	if f, ok := m[name]; ok && f.kind != "histogram" {
		return f.kind, f.labels, nil
	}
	for _, part := range []string{"_bucket", "_sum", "_count"} {
		f, ok := m[strings.TrimSuffix(name, part)]
		if !ok || f.kind != "histogram" || !strings.HasSuffix(name, part) {
			continue
		}
		with := maps.Clone(f.labels)
		if part == "_bucket" {
			with["le"] = nil
		}
		return "counter", with, nil
	}
	return "", nil, fmt.Errorf("there is no metric %s", name)
}

// check parses an expression, and finds the labels of what it gives. An error names a metric, label or value that the worker does
// not have, or a function that is not for that type of metric.
func (m metrics) check(expr string) (labelSet, error) {
	parsed, err := promQL.ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	return m.labelsOf(parsed)
}

func (m metrics) labelsOf(node parser.Expr) (labelSet, error) {
	switch e := node.(type) {
	case *parser.VectorSelector:
		return m.selected(e)
	case *parser.MatrixSelector:
		return m.labelsOf(e.VectorSelector)
	case *parser.ParenExpr:
		return m.labelsOf(e.Expr)
	case *parser.NumberLiteral, *parser.StringLiteral:
		return labelSet{}, nil
	case *parser.Call:
		return m.called(e)
	case *parser.AggregateExpr:
		return m.aggregated(e)
	case *parser.BinaryExpr:
		return m.combined(e)
	}
	return nil, fmt.Errorf("%s: a %T, which no test here knows yet", node, node)
}

func (m metrics) selected(e *parser.VectorSelector) (labelSet, error) {
	_, has, err := m.series(e.Name)
	if err != nil {
		return nil, err
	}
	for _, matcher := range e.LabelMatchers {
		if matcher.Name == model.MetricNameLabel {
			continue
		}
		values, ok := has[matcher.Name]
		if !ok {
			return nil, fmt.Errorf("%s has no label %s", e.Name, matcher.Name)
		}
		if values == nil {
			continue
		}
		for _, asked := range askedFor(matcher) {
			if !slices.ContainsFunc(values, asked.Matches) {
				return nil, fmt.Errorf("%s is never anything that %s matches", e.Name, asked)
			}
		}
	}
	return has, nil
}

// askedFor are the values that a matcher names, each of which must be one that there is.
func askedFor(m *labels.Matcher) []*labels.Matcher {
	named := []string{m.Value}
	if m.Type == labels.MatchRegexp || m.Type == labels.MatchNotRegexp {
		if named = m.SetMatches(); len(named) == 0 {
			return []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, m.Name, m.Value)}
		}
	}
	asked := make([]*labels.Matcher, 0, len(named))
	for _, value := range named {
		asked = append(asked, labels.MustNewMatcher(labels.MatchEqual, m.Name, value))
	}
	return asked
}

// kinds are the functions that are for one type of metric.
var kinds = map[string]string{"rate": "counter", "irate": "counter", "increase": "counter", "resets": "counter", "delta": "gauge", "deriv": "gauge"}

func (m metrics) called(e *parser.Call) (labelSet, error) {
	union := labelSet{}
	for _, arg := range e.Args {
		has, err := m.labelsOf(arg)
		if err != nil {
			return nil, err
		}
		maps.Copy(union, has)
		if over, ok := arg.(*parser.MatrixSelector); ok && kinds[e.Func.Name] != "" {
			name := over.VectorSelector.(*parser.VectorSelector).Name
			if kind, _, _ := m.series(name); kind != kinds[e.Func.Name] {
				return nil, fmt.Errorf("%s of %s, which is a %s", e.Func.Name, name, kind)
			}
		}
	}
	if e.Func.Name == "histogram_quantile" {
		if _, ok := union["le"]; !ok {
			return nil, fmt.Errorf("%s: its buckets have no le", e)
		}
		delete(union, "le")
	}
	return union, nil
}

func (m metrics) aggregated(e *parser.AggregateExpr) (labelSet, error) {
	has, err := m.labelsOf(e.Expr)
	if err != nil {
		return nil, err
	}
	if e.Without {
		return nil, fmt.Errorf("%s: name the labels that stay (by)", e)
	}
	return has.only(e.Grouping, e)
}

func (m metrics) combined(e *parser.BinaryExpr) (labelSet, error) {
	left, err := m.labelsOf(e.LHS)
	if err != nil {
		return nil, err
	}
	right, err := m.labelsOf(e.RHS)
	if err != nil {
		return nil, err
	}
	if e.VectorMatching != nil {
		for _, side := range []labelSet{left, right} {
			if _, err := side.only(e.VectorMatching.MatchingLabels, e); err != nil {
				return nil, err
			}
		}
	}
	union := maps.Clone(left)
	if e.Op == parser.LOR {
		maps.Copy(union, right)
	}
	return union, nil
}

// only is the set with these labels alone, all of which must be there.
func (s labelSet) only(names []string, e parser.Expr) (labelSet, error) {
	rest := labelSet{}
	for _, name := range names {
		values, ok := s[name]
		if !ok {
			return nil, fmt.Errorf("%s: there is no label %s", e, name)
		}
		rest[name] = values
	}
	return rest, nil
}
