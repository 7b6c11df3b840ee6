package worker

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"hsmsweep/deletion"
	"hsmsweep/queue"
)

// A task is a delivery understood: what is asked for, and how far it has come.
type task struct {
	delivery   *queue.Delivery
	deliveries int // of this message, this one included
	failures   int // of those before this one: nobody settled them
	request    deletion.Request
	events     []jsontext.Value // an array of several: each becomes a request of its own
	attempt    Attempt
	fault      *fault            // the request cannot be carried out; request then holds what could be read
	trace      map[string]string // traceparent and tracestate as they came
}

// now is the time by the broker's clock.
func (t task) now() time.Time { return t.delivery.Now() }

// A fault is what is wrong with a message, as its author is told.
type fault struct{ code, message string }

// Check says what the worker would say of a body, before it is sent.
func Check(body []byte) error {
	e, err := open(body, nil)
	if err == nil {
		_, err = e.request()
	}
	for i, event := range e.events {
		if fault := Check(event); fault != nil {
			err = errors.Join(err, fmt.Errorf("event %d of %d: %w", i+1, len(e.events), fault))
		}
	}
	return err
}

// RequestIDOf is the id that a request with this body and message id goes by.
func RequestIDOf(body []byte, messageID string) string {
	e, _ := open(body, nil) // what cannot be read has no id of its own
	r, _ := e.request()
	return cmp.Or(r.RequestID, idOf(e.ID), messageID)
}

// idOf makes a request id of an envelope's or a message's id, which nothing keeps short or printable.
func idOf(id string) string {
	printable := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(id, ""))
	return compact(printable, 128)
}

// take understands a delivery. It never fails: what cannot be understood is a task with a fault.
func (w *Worker) take(d *queue.Delivery, now time.Time) task {
	t := task{delivery: d, deliveries: int(d.DeliveryCount), failures: d.Failures(), trace: traceOf(d.ApplicationProperties)}
	e, err := open(d.Body, d.ApplicationProperties)
	if err == nil {
		t.request, err = e.request()
	}
	t.events = e.events
	t.fault = faultOf(err)
	if len(t.trace) == 0 {
		t.trace = e.trace()
	}

	attempt, resumes, err := resumed(d)
	if resumes {
		t.attempt = attempt
		// Whoever wrote it, it ends: a step moves the time to give up at nowhere.
		t.attempt.GiveUpAt = earlier(attempt.GiveUpAt, later(now, t.request.NotBefore).Add(w.policy.GiveUpAfter))
		return t
	}
	if err != nil {
		t.fault = &fault{CodeInvalidRequest, err.Error()}
	}
	again, _ := d.ApplicationProperties[requestIDProperty].(string)
	id := cmp.Or(idOf(again), t.request.RequestID, idOf(e.ID), idOf(d.MessageID), strconv.FormatInt(*d.SequenceNumber, 10))
	t.attempt = newAttempt(id, *d.SequenceNumber, enqueued(d, now), now, w.policy.GiveUpAfter)
	if after := t.request.NotBefore; after.After(now) {
		t.attempt.Due, t.attempt.Why = after, WaitNotBefore
		t.attempt.GiveUpAt = after.Add(w.policy.GiveUpAfter)
	}
	return t
}

// resumed gives the Attempt that the message carries. A message with a dead-letter reason, or with another id than the Attempt's,
// was put here by somebody's tool: it begins anew, under a lineage of its own.
func resumed(d *queue.Delivery) (Attempt, bool, error) {
	text, ok := d.ApplicationProperties[attemptProperty].(string)
	if _, dead := d.ApplicationProperties["DeadLetterReason"]; dead || !ok {
		return Attempt{}, false, nil
	}
	a, err := decodeAttempt(text)
	return a, err == nil && a.messageID() == d.MessageID, err
}

func earlier(s, t time.Time) time.Time {
	if s.Before(t) {
		return s
	}
	return t
}

func later(s, t time.Time) time.Time {
	if s.After(t) {
		return s
	}
	return t
}

func enqueued(d *queue.Delivery, now time.Time) time.Time {
	if d.EnqueuedTime == nil {
		return now
	}
	return d.EnqueuedTime.UTC()
}

func faultOf(err error) *fault {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errUnsupportedEvent):
		return &fault{CodeUnsupportedEvent, err.Error()}
	}
	return &fault{CodeInvalidRequest, strings.ReplaceAll(err.Error(), "\n", "; ")}
}
