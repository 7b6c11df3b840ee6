package worker

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"hsmsweep/deletion"
)

// A Selection is how far a selector has come. What a search finds, and that it found nothing, is written down before anything is
// done about it: the first of the requests that come of it may be over, and their connections gone, before a repeated step
// would look again.
type Selection struct {
	Found found  `json:"found,omitzero"` // connections that become requests with this step; none: the next step searches
	After string `json:"after,omitzero"` // the last connection of earlier steps, in lower case
	Made  int    `json:"made,omitzero"`  // requests so far, those of Found included
	Last  bool   `json:"last,omitzero"`  // the search showed nothing behind Found
}

// done tells whether nothing is left to search for.
func (s *Selection) done() bool { return s != nil && (s.Last || len(s.Found) > 0) }

// found is a list of connections that travels as text, compressed: a property of Service Bus holds 32 KB.
type found []deletion.ConnectionID

const (
	// mostFound is how many connections become requests in one step, so that a step stays short.
	mostFound = 5000
	// longestFound, in bytes, is what they may take in an Attempt.
	longestFound = 24 << 10
	// longestUnpacked, in bytes, is beyond what mostFound ids take.
	longestUnpacked = mostFound * 512
)

// MarshalJSON packs the ids.
func (f found) MarshalJSON() ([]byte, error) {
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	for _, id := range f {
		_, err = io.WriteString(w, id.String()+"\n")
		if err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return json.Marshal(packed.Bytes())
}

// UnmarshalJSON reads what another worker, or a stranger, packed.
func (f *found) UnmarshalJSON(text []byte) error {
	var packed []byte
	if err := json.Unmarshal(text, &packed); err != nil {
		return err
	}
	unpacked, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), longestUnpacked))
	if err != nil {
		return err
	}
	*f = nil
	for line := range strings.Lines(string(unpacked)) {
		id, err := deletion.ParseConnectionID(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return err
		}
		*f = append(*f, id)
	}
	return nil
}

// fitting is as much of the beginning of a list as one Attempt takes.
func fitting(ids found) (found, error) {
	ids = ids[:min(len(ids), mostFound)]
	for {
		text, err := ids.MarshalJSON()
		if err != nil || len(text) <= longestFound {
			return ids, err
		}
		ids = ids[:len(ids)*longestFound/len(text)]
	}
}

// selected writes down what a search found, for the next step.
func selected(t task, out deletion.Outcome, now time.Time) Verdict {
	a := t.attempt
	var s Selection
	if a.Selection != nil {
		s = *a.Selection
	}
	var ids found
	for _, c := range out.Listed {
		if strings.ToLower(c.ID.String()) > s.After {
			ids = append(ids, c.ID)
		}
	}
	some, err := fitting(ids)
	if err != nil {
		return giveBack(fmt.Errorf("what was found cannot be written down: %w", err))
	}
	a.Selection = &Selection{Found: some, After: s.After, Made: s.Made + len(some), Last: len(some) == len(ids)}
	return park(a, now, WaitExpand)
}

// soughtBy says in words what a selector looks for.
func soughtBy(r deletion.Request) string {
	if r.Pool != nil {
		return "a connection of " + r.Pool.String() + " in state " + listed(r.Statuses)
	}
	return "a connection of " + r.Endpoint.String()
}

// wanted tells whether a selector means a connection. Guards of the request beside it are left to the connection's own request.
func wanted(r deletion.Request) func(deletion.Connection) bool {
	if r.Pool != nil {
		return func(c deletion.Connection) bool { return among(r.Statuses, c.Status) }
	}
	return func(c deletion.Connection) bool { return deletion.SameID(c.Endpoint, r.Endpoint.String()) }
}

// expand makes requests of what was found, or of the events in a message, and ends, or goes on searching behind them.
func expand(t task, now time.Time, p Policy) Verdict {
	a := t.attempt
	children := t.children(now, p)
	switch {
	case a.Selection != nil && a.Selection.Made == 0:
		return end(a, End{Outcome: EndNoMatch, At: now, Expected: soughtBy(t.request), Found: "none"})
	case a.Selection == nil || a.Selection.Last:
		v := end(a, End{Outcome: EndExpanded, At: now})
		v.Children = children
		return v
	}
	s := *a.Selection
	s.After = strings.ToLower(s.Found[len(s.Found)-1].String())
	s.Found = nil
	a.Selection = &s
	v := park(a, now, WaitExpand)
	v.Children = children
	return v
}

// A child is a request that came of another one.
type child struct {
	attempt Attempt
	body    []byte
}

// children are the requests that this step makes. They are the same on every repeat: of what was written down, or of the body.
// Their lineages have two parts more than the parent's, and so are never the id of one of its hops, whatever a connection is
// called.
func (t task) children(now time.Time, p Policy) []child {
	a := t.attempt
	born := func(name, lineage string, body []byte) child {
		return child{body: body, attempt: Attempt{
			Version: attemptVersion, RequestID: compact(a.RequestID+"/"+name, 128), Parent: a.RequestID,
			Lineage: compact(a.Lineage+"/"+lineage, longestLineage), RequestedAt: a.RequestedAt, GiveUpAt: now.Add(p.GiveUpAfter)}}
	}
	var children []child
	for i, event := range t.events {
		e, err := open(event, nil)
		var r deletion.Request
		if err == nil {
			r, _ = e.request() // what is wrong with it is its own request's concern
		}
		children = append(children, born(cmp.Or(r.Connection.Name, idOf(e.ID), strconv.Itoa(i)), "event/"+strconv.Itoa(i), event))
	}
	if a.Selection != nil && t.request.Selects() { // who forges it for another request gains nothing
		for _, id := range a.Selection.Found {
			one := t.request
			one.Connection, one.Pool, one.NotBefore = id, nil, time.Time{}
			c := born(id.Name, strings.ToLower(id.Pool.Name+"/"+id.Name), nil)
			one.RequestID = c.attempt.RequestID
			c.body, _ = one.Encode() // it was decoded
			children = append(children, c)
		}
	}
	return children
}

// message is the first message of a request that came of another one. Its id is its lineage.
func (c child) message(ctx context.Context) (*azservicebus.Message, error) {
	state, err := c.attempt.encode()
	if err != nil {
		return nil, fmt.Errorf("the state of %s cannot be written down: %w", c.attempt.RequestID, err)
	}
	m := &azservicebus.Message{
		MessageID:             new(c.attempt.messageID()),
		Body:                  c.body,
		ContentType:           new("application/json"),
		ApplicationProperties: map[string]any{attemptProperty: state},
	}
	InjectTrace(ctx, m.ApplicationProperties)
	return m, nil
}

// scheduleAll sends the first messages of a verdict's children.
func (w *Worker) scheduleAll(ctx context.Context, children []child) error {
	if len(children) == 0 {
		return nil
	}
	ctx, sent := w.queue.sends(ctx, len(children))
	messages := make([]*azservicebus.Message, len(children))
	for i, c := range children {
		var err error
		if messages[i], err = c.message(ctx); err != nil {
			return sent(err)
		}
	}
	return sent(w.queue.SendAll(ctx, messages))
}

// longestChildren, in bytes, is what an event lists of its children, so that it fits into a message.
const longestChildren = 160 << 10

// listChildren gives the request ids that an Expanded event lists, and of how many requests they are.
func listChildren(t task, a Attempt, p Policy) (ids []string, n int) {
	t.attempt = a
	children := t.children(time.Time{}, p)
	n = len(children)
	if a.Selection != nil {
		n = a.Selection.Made
	}
	size := 0
	for _, c := range children {
		if size += len(c.attempt.RequestID) + 3; size > longestChildren {
			break
		}
		ids = append(ids, c.attempt.RequestID)
	}
	return ids, n
}

// array takes an array of events apart. What is none, or cannot be read, is nil: the native decoder says what is wrong with it.
func array(body []byte) ([]jsontext.Value, error) {
	var events []jsontext.Value
	if len(body) == 0 || body[0] != '[' || json.Unmarshal(body, &events, jsontext.AllowDuplicateNames(true)) != nil {
		return nil, nil
	}
	if len(events) == 0 {
		return nil, errors.New("an empty array: there is no request in it")
	}
	if i := slices.IndexFunc(events, func(e jsontext.Value) bool { return e.Kind() != '{' }); i >= 0 {
		return nil, fmt.Errorf("an array of events: element %d of %d is no JSON object", i+1, len(events))
	}
	return events, nil
}
