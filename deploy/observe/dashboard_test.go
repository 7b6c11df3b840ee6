package observe_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// A panel is as much of Grafana's as is looked at here. A row that is closed has panels of its own.
type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Datasource  struct {
		UID string `json:"uid"`
	} `json:"datasource"`
	GridPos struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	} `json:"targets"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Panels []panel `json:"panels"`
}

// loadPanels are all panels of the dashboard but the rows.
func loadPanels(t *testing.T) (found []panel) {
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []panel `json:"panels"`
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		if p.Type == "row" {
			found = append(found, p.Panels...)
			continue
		}
		found = append(found, p)
	}
	return found
}

// grafana fills in a query's variables, as Grafana does.
var grafana = strings.NewReplacer("$__interval_ms", "120000", "$__interval", "2m", "$__range", "6h", "$job", ".+")

var labelInLegend = regexp.MustCompile(`\{\{(\w+)\}\}`)

// TestDashboardAsksForWhatThereIs: every metric, label and label's value in a panel is one that the worker emits, and every metric has
// a panel.
func TestDashboardAsksForWhatThereIs(t *testing.T) {
	known, asked := loadMetrics(t), ""
	for _, p := range loadPanels(t) {
		for _, target := range p.Targets {
			asked += target.Expr
			has, err := known.check(grafana.Replace(target.Expr))
			if err != nil {
				t.Errorf("%s: %v", p.Title, err)
				continue
			}
			for _, found := range labelInLegend.FindAllStringSubmatch(target.LegendFormat, -1) {
				if _, ok := has[found[1]]; !ok {
					t.Errorf("%s: its legend names the label %s, which its query does not give", p.Title, found[1])
				}
			}
		}
	}
	for name := range known {
		if !strings.Contains(asked, name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// TestDashboardIsLegible: every panel says what it shows, in which unit, and lies beside the others.
func TestDashboardIsLegible(t *testing.T) {
	panels := loadPanels(t)
	for i, p := range panels {
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %d (%s) lacks a title, a description, a unit, a query, or the data source that is chosen at the top", p.ID, p.Title)
		}
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s reaches beyond the right edge", p.Title)
		}
		for _, q := range panels[:i] {
			a, b := p.GridPos, q.GridPos
			if p.ID == q.ID || a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s lies upon %s, or has its id", p.Title, q.Title)
			}
		}
	}
}
