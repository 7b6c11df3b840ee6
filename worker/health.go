package worker

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"hsmsweep/deletion"
)

// deniedStreak is how many denials in a row are taken for a worker without rights rather than a request without.
const deniedStreak = 3

// silentStreak is how many questions in a row ARM may leave without an answer before that is not the network's whim.
const silentStreak = 3

// lookAtARMEvery is for how long what a step saw of ARM counts.
const lookAtARMEvery = 10 * time.Minute

// health is what readiness is told from.
type health struct {
	mu         sync.Mutex
	connected  bool
	receiveErr error
	deaf       error // why the receiver was taken to be deaf; nil as soon as it hears
	denials    int   // in a row
	deniedAt   time.Time
	armSeen    time.Time // when it last was known whether ARM can be asked
	armErr     error     // why not
	unanswered int       // questions in a row
	silentAt   time.Time // when the last of them was given up
	silentErr  error     // and why
}

// connection notes how the last connecting or receiving went.
func (h *health) connection(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.connected, h.receiveErr = err == nil, err
}

// hearsNothing notes that the receiver is deaf.
func (h *health) hearsNothing(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf = why
}

// hears notes that it is not.
func (h *health) hears() { h.hearsNothing(nil) }

func (h *health) isDeaf() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.deaf != nil
}

// looked notes how a look towards ARM went.
func (h *health) looked(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.armSeen, h.armErr = time.Now(), err
}

// looks tells whether it is time for one: nothing is known, nothing good, or nothing new.
func (h *health) looks() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.armErr != nil || time.Since(h.armSeen) >= lookAtARMEvery
}

// answered notes what ARM said.
func (h *health) answered(out deletion.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case out.HTTPStatus != 0:
		h.armSeen, h.armErr, h.unanswered = time.Now(), nil, 0
	case out.Kind == deletion.Unavailable:
		h.unanswered++
		h.silentAt, h.silentErr = time.Now(), fmt.Errorf("%s: %s", out.Code, out.Message)
	}
	switch {
	case out.Kind == deletion.Denied:
		h.denials++
		h.deniedAt = time.Now()
	case out.HTTPStatus != 0:
		h.denials = 0
	}
}

// Ready tells why the worker is of no use at present, nil when it is.
func (w *Worker) Ready() error {
	h, stalled := &w.health, w.stall.why()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.receiveErr != nil:
		return fmt.Errorf("not receiving from Service Bus: %w", h.receiveErr)
	case !h.connected:
		return errors.New("not connected to Service Bus yet")
	case h.deaf != nil:
		return fmt.Errorf("connected to Service Bus anew: %w", h.deaf)
	case stalled != nil:
		return fmt.Errorf("receiving hardly anything, because the request queue takes no successors: %w", stalled)
	case h.armSeen.IsZero():
		return errors.New("whether ARM can be asked is not known yet")
	case h.armErr != nil:
		return fmt.Errorf("ARM cannot be asked: %w", h.armErr)
	case h.unanswered >= silentStreak && time.Since(h.silentAt) < deniedFor: // by then somebody has tried again
		return fmt.Errorf("ARM left the last %d questions without an answer: %w", h.unanswered, h.silentErr)
	case h.denials >= deniedStreak && time.Since(h.deniedAt) < deniedFor: // by then every denied request has ended
		return fmt.Errorf("ARM denied the last %d calls: check the role assignments of the worker's identity", h.denials)
	}
	return nil
}
