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

// health is what readiness is told from.
type health struct {
	mu         sync.Mutex
	connected  bool
	receiveErr error
	deaf       error // why the receiver was taken to be deaf; nil as soon as it hears
	denials    int   // in a row
	deniedAt   time.Time
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

// answered notes what ARM said.
func (h *health) answered(out deletion.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
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
	case h.denials >= deniedStreak && time.Since(h.deniedAt) < deniedFor: // by then every denied request has ended
		return fmt.Errorf("ARM denied the last %d calls: check the role assignments of the worker's identity", h.denials)
	}
	return nil
}
