package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"

	"hsmsweep/worker"
)

// A wish is what an action is to be done with.
type wish struct {
	RequestID      string `json:"requestId"`
	SequenceNumber int64  `json:"sequenceNumber,string"`
	StopWatching   bool   `json:"stopWatching"` // of a cancel: also where ARM has begun
}

// actions do what is wished for and return what was done, in a sentence. What they act upon is found again first: the page may be old.
var actions = map[string]func(*watch, context.Context, wish) (string, error){
	"cancel": func(w *watch, ctx context.Context, wish wish) (string, error) {
		request, err := w.request(ctx, wish.RequestID, wish.SequenceNumber)
		if err != nil {
			return "", err
		}
		return "It is out of the queue, and its event says that it was cancelled.", w.operator.Cancel(ctx, request, wish.StopWatching)
	},
	"expedite": func(w *watch, ctx context.Context, wish wish) (string, error) {
		request, err := w.request(ctx, wish.RequestID, wish.SequenceNumber)
		if err != nil {
			return "", err
		}
		return "It is due now.", w.operator.Expedite(ctx, request)
	},
	"resubmit": func(w *watch, ctx context.Context, wish wish) (string, error) {
		atOnce := func(context.Context) error { return nil }
		return "It is in the queue again, as a new request.", w.withLetter(ctx, wish, func(d []worker.DeadLetter, told worker.Settled) error {
			return w.operator.Resubmit(ctx, d, 1, atOnce, told)
		})
	},
	"drop": func(w *watch, ctx context.Context, wish wish) (string, error) {
		return "It is gone from the dead-letter queue.", w.withLetter(ctx, wish, func(d []worker.DeadLetter, told worker.Settled) error {
			return w.operator.Drop(ctx, d, 1, told)
		})
	},
}

func (w *watch) withLetter(ctx context.Context, wish wish, do func([]worker.DeadLetter, worker.Settled) error) error {
	letter, err := w.letter(ctx, wish.RequestID, wish.SequenceNumber)
	if err != nil {
		return err
	}
	var faults []error
	err = do([]worker.DeadLetter{letter}, func(_ worker.DeadLetter, err error) { faults = append(faults, err) })
	if told := errors.Join(faults...); told != nil {
		return told
	}
	return err
}

// act carries an action out. Who closes the page meanwhile does not stop it halfway.
func (d *Dashboard) act(out http.ResponseWriter, r *http.Request) {
	if !d.actions {
		refuse(out, http.StatusForbidden, "this dashboard only shows: it was started without --allow-actions")
		return
	}
	do, ok := actions[r.PathValue("action")]
	if !ok {
		refuse(out, http.StatusNotFound, "there is no such action")
		return
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		refuse(out, http.StatusUnsupportedMediaType, "expected application/json")
		return
	}
	var wish wish
	if err := json.NewDecoder(http.MaxBytesReader(out, r.Body, 16<<10)).Decode(&wish); err != nil || wish.RequestID == "" {
		refuse(out, http.StatusBadRequest, "expected requestId and sequenceNumber")
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), actionTimeout)
	defer cancel()
	done, err := do(d.watch, ctx, wish)
	d.watch.soon()
	d.log.Info("an action on the dashboard", "action", r.PathValue("action"), "requestId", wish.RequestID, "sequenceNumber", wish.SequenceNumber, "error", err)
	unpublished, isUnpublished := errors.AsType[*worker.UnpublishedError](err)
	switch {
	case err == nil:
		answer(out, http.StatusOK, struct {
			Done string `json:"done"`
		}{done})
	case isUnpublished:
		answer(out, http.StatusBadGateway, struct {
			Error string          `json:"error"`
			Event json.RawMessage `json:"event"` // that must not be lost: whoever sees it has to publish it
		}{err.Error(), unpublished.Event.Body})
	case errors.Is(err, worker.ErrTooLate):
		refuse(out, http.StatusConflict, err.Error())
	default:
		refuse(out, http.StatusBadGateway, err.Error())
	}
}

// request finds a waiting request as it is now. The sequence number tells it from others of its id, and from what it was at another hop.
func (w *watch) request(ctx context.Context, id string, number int64) (worker.Waiting, error) {
	found, err := w.operator.Find(ctx, []string{id})
	if err != nil {
		return worker.Waiting{}, err
	}
	for _, request := range found {
		if request.SequenceNumber == number {
			return request, nil
		}
	}
	if len(found) > 0 {
		return worker.Waiting{}, fmt.Errorf("%w: it has gone on since, and nothing was changed; look at it again", worker.ErrTooLate)
	}
	return worker.Waiting{}, fmt.Errorf("%w: it is not in the queue any more, and nothing was changed; see the events", worker.ErrTooLate)
}

// letter finds a dead letter as it is now.
func (w *watch) letter(ctx context.Context, id string, number int64) (worker.DeadLetter, error) {
	for page, err := range w.operator.DeadLetters(ctx) {
		if err != nil {
			return worker.DeadLetter{}, err
		}
		for _, d := range page {
			if d.SequenceNumber == number && d.RequestID == id {
				return d, nil
			}
		}
	}
	return worker.DeadLetter{}, fmt.Errorf("%w: it is not a dead letter any more, and nothing was changed", worker.ErrTooLate)
}
