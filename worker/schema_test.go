package worker

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"hsmsweep/internal/schema/schematest"
)

func TestDescriptions(t *testing.T) {
	schematest.Described(t, descriptions, cloudAttributes{}, gridAttributes{}, EventData{}, EventError{})
}

// TestEventTypes has an event of every outcome, as right and with another type.
func TestEventTypes(t *testing.T) {
	valid := schematest.Compile(t, EventSchema())
	event := func(eventType string, outcome Reason) []byte {
		return []byte(`{"specversion":"1.0","id":"r@1/end","source":"hsmsweep/q","type":"` + eventType + `","time":"2026-01-31T08:00:00Z","datacontenttype":"application/json",
			"data":{"requestId":"r","outcome":"` + string(outcome) + `","requestedAt":"2026-01-31T08:00:00Z","finishedAt":"2026-01-31T08:00:00Z",
			"attempts":0,"polls":0,"deliveryCount":1,"error":{"code":"C","message":"m"}}}`)
	}
	for outcome, right := range eventTypes {
		for _, eventType := range []string{typeCompleted, typeSkipped, typeFailed, "Contoso.Other"} {
			if err := valid(event(eventType, outcome)); (err == nil) != (eventType == right) {
				t.Errorf("%s of type %s: %v", outcome, eventType, err)
			}
		}
	}
	if valid(event(typeCompleted, "unknown")) == nil {
		t.Error("an unknown outcome passes")
	}
	for _, eventType := range []string{typeCompleted, typeFailed} {
		outcome := map[string]Reason{typeCompleted: EndDeleted, typeFailed: EndRejected}[eventType]
		bare := bytes.Replace(event(eventType, outcome), []byte(`,"error":{"code":"C","message":"m"}`), nil, 1)
		if err := valid(bare); (err == nil) != (eventType == typeCompleted) {
			t.Errorf("%s without an error: %v", eventType, err)
		}
	}
}

// TestTwoKindsOfData has a CloudEvent with data as JSON and as bytes, one of which would be overlooked.
func TestTwoKindsOfData(t *testing.T) {
	valid := schematest.Compile(t, RequestSchema())
	event := fmt.Sprintf(`{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"connectionId":%q}}`, sampleID)
	if err := valid([]byte(event)); err != nil {
		t.Error(err)
	}
	if valid([]byte(strings.Replace(event, `"data":`, `"data_base64":"e30=","data":`, 1))) == nil {
		t.Error("both pass")
	}
}
