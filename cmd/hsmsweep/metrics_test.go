package main

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"hsmsweep/internal/emulator/arm"
)

// TestMetricsEndpoint scrapes the process as Prometheus would. The names are what dashboards and alerts are made of.
func TestMetricsEndpoint(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 1, arm.Script{Deletes: []arm.Answer{started(arm.Operation{Polls: 1, RetryAfter: "1"})}})
	w := a.worker(t)
	a.submit(t, 1)
	a.ended(t, 1)
	probes := w.probes(t)
	var families map[string]*dto.MetricFamily
	eventually(t, "the end is counted", func() bool {
		status, text := get(t, probes+"/metrics")
		if status != http.StatusOK {
			t.Fatalf("/metrics answers %d", status)
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		var err error
		if families, err = parser.TextToMetricFamilies(strings.NewReader(text + "\n")); err != nil {
			t.Fatalf("/metrics is not Prometheus's text: %v\n%s", err, text)
		}
		return families["hsmsweep_requests_ended_total"] != nil
	})
	kinds := map[string]string{}
	for name, f := range families {
		kinds[name] = strings.ToLower(f.GetType().String())
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
	}
	want := map[string]string{
		"target_info":                                 "gauge",
		"hsmsweep_requests_ended_total":               "counter",
		"hsmsweep_request_duration_seconds":           "histogram",
		"hsmsweep_request_hops":                       "histogram",
		"hsmsweep_request_polls":                      "histogram",
		"hsmsweep_requests_parked_total":              "counter",
		"hsmsweep_pickup_delay_seconds":               "histogram",
		"hsmsweep_steps_in_hand":                      "gauge",
		"hsmsweep_arm_answers_total":                  "counter",
		"hsmsweep_arm_remaining":                      "gauge",
		"hsmsweep_gates_closed":                       "gauge",
		"hsmsweep_turns_ahead_seconds":                "gauge",
		"hsmsweep_receiver_silence_seconds":           "gauge",
		"hsmsweep_receiver_deaf":                      "gauge",
		"hsmsweep_queue_stalled":                      "gauge",
		"hsmsweep_ready":                              "gauge",
		"messaging_process_duration_seconds":          "histogram",
		"messaging_client_consumed_messages_total":    "counter",
		"messaging_client_sent_messages_total":        "counter",
		"messaging_client_operation_duration_seconds": "histogram",
		"http_client_request_duration_seconds":        "histogram",
	}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("metrics of a deletion (-want +got):\n%s", diff)
	}
	checkListed(t, families)
	ended := families["hsmsweep_requests_ended_total"].Metric[0]
	labels := map[string]string{}
	for _, l := range ended.Label {
		labels[l.GetName()] = l.GetValue()
	}
	if !maps.Equal(labels, map[string]string{"end": "completed", "outcome": "deleted", "code": "none"}) || ended.Counter.GetValue() != 1 {
		t.Errorf("ended: %v %g, want one deletion", labels, ended.Counter.GetValue())
	}
	if ready := families["hsmsweep_ready"].Metric[0].Gauge.GetValue(); ready != 1 {
		t.Errorf("ready is %g, want 1", ready)
	}
	service := slices.ContainsFunc(families["target_info"].Metric[0].Label, func(l *dto.LabelPair) bool {
		return l.GetName() == "service_name" && l.GetValue() == "hsmsweep"
	})
	if !service {
		t.Errorf("target_info is %v, want the service's name in it", families["target_info"])
	}
	w.terminate(t)
	w.wantExit(t, 0, 10*time.Second)
}
