package server

import (
	"slices"
	"sync"
	"sync/atomic"

	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// maxDispositionRange bounds what one disposition may settle.
const maxDispositionRange = 1 << 16

// A session belongs to the reader, except for what is marked otherwise.
type session struct {
	conn    *conn
	channel uint16
	links   map[uint32]*link // by handle; both directions use the client's number
	ended   bool             // the server has sent end and ignores the rest
	unacked int              // frames received since the client was last told of its window

	incoming atomic.Uint32 // the id of the next transfer frame from the client

	mu        sync.Mutex
	unsettled map[uint32]unsettled // by delivery id

	// The writer's.
	sending    []*link // links to the client, in order of attachment
	outgoing   uint32  // the id of the next transfer frame to the client
	window     uint32  // transfer frames that the client is ready for
	deliveryID uint32  // of the next delivery; consecutive over all links, as rhea insists
	closed     bool
}

// unsettled is a delivery whose outcome the client has not told.
type unsettled struct {
	link      *link
	token     broker.Token
	messageID string // for faults
}

func newSession(c *conn, channel uint16, begin *amqp.Begin) *session {
	s := &session{
		conn:      c,
		channel:   channel,
		links:     map[uint32]*link{},
		unsettled: map[uint32]unsettled{},
		window:    begin.IncomingWindow,
	}
	s.incoming.Store(begin.NextOutgoingID)
	return s
}

// handle carries out a frame. An error ends the session.
func (s *session) handle(f amqp.Frame) error {
	switch body := f.Body.(type) {
	case *amqp.Attach:
		return s.attach(body)
	case *amqp.Detach:
		return s.detach(body)
	case *amqp.Flow:
		return s.flow(body)
	case *amqp.Transfer:
		return s.transfer(body, f.Payload)
	case *amqp.Disposition:
		return s.disposition(body)
	}
	return amqp.Errorf(amqp.CondNotAllowed, "%T in a session", f.Body)
}

// flow takes the client's window and, for a link, its credit.
func (s *session) flow(f *amqp.Flow) error {
	var l *link
	if f.Handle != nil {
		if l = s.links[*f.Handle]; l == nil {
			return unattached(*f.Handle)
		}
		if l.detached.Load() {
			return nil
		}
	}
	var from uint32 // the client has not seen begin yet: it counts from the first id
	if f.NextIncomingID != nil {
		from = *f.NextIncomingID
	}
	out := s.conn.out
	out.post(func() {
		s.window = f.IncomingWindow - min(f.IncomingWindow, s.outgoing-from)
		out.pump(s.sending...)
	})
	if l != nil && l.out != nil && f.LinkCredit != nil {
		l.takeCredit(f)
	}
	if f.Echo && !f.Drain {
		s.postFlow(l)
	}
	return nil
}

// transfer takes one frame of a delivery from the client.
func (s *session) transfer(t *amqp.Transfer, payload []byte) error {
	s.incoming.Add(1)
	if s.unacked++; s.unacked >= sessionIncoming/2 {
		s.postFlow(nil)
	}
	l := s.links[t.Handle]
	switch {
	case l == nil:
		return unattached(t.Handle)
	case l.detached.Load():
		return nil
	case l.in == nil:
		return amqp.Errorf(amqp.CondNotAllowed, "a transfer on link %q, on which the client receives", l.name)
	}
	delivery, err := l.in.add(t, payload)
	if err != nil {
		l.fail(asError(err))
		return nil
	}
	if delivery == nil {
		return nil
	}
	if l.in.credit <= linkCredit/2 {
		l.in.credit = linkCredit
		s.postFlow(l)
	}
	s.accept(l, delivery)
	return nil
}

// postFlow tells the client its window and, for a link, the credit.
func (s *session) postFlow(l *link) {
	s.unacked = 0
	flow := &amqp.Flow{}
	if l != nil {
		flow.Handle = new(l.handle)
		if l.in != nil {
			flow.DeliveryCount, flow.LinkCredit = new(l.in.received), new(l.in.credit)
		}
	}
	out := s.conn.out
	out.post(func() {
		if l != nil && l.out != nil {
			flow.DeliveryCount, flow.LinkCredit = new(l.out.count), new(l.out.limit-l.out.count)
		}
		out.flow(s, flow)
	})
}

// post queues a frame of the session.
func (s *session) post(body amqp.Composite) {
	out := s.conn.out
	out.post(func() {
		if !s.closed {
			out.frame(s.channel, body, nil)
		}
	})
}

// flow fills in the state of the session and sends it.
func (o *outbox) flow(s *session, f *amqp.Flow) {
	if s.closed {
		return
	}
	f.NextIncomingID = new(s.incoming.Load())
	f.IncomingWindow = sessionIncoming
	f.NextOutgoingID = s.outgoing
	f.OutgoingWindow = sessionIncoming
	o.frame(s.channel, f, nil)
}

func (s *session) detach(d *amqp.Detach) error {
	l := s.links[d.Handle]
	if l == nil {
		return unattached(d.Handle)
	}
	delete(s.links, d.Handle)
	l.forget()
	if l.detached.CompareAndSwap(false, true) {
		l.finish(nil)
	}
	return nil
}

// fail ends the session with an error; what the client still sends on it is ignored.
func (s *session) fail(err *amqp.Error) {
	s.ended = true
	s.finish(&amqp.End{Error: err})
}

// finish releases the session's links and sends end, the last frame on its channel.
func (s *session) finish(end *amqp.End) {
	s.release()
	out := s.conn.out
	out.post(func() {
		out.drop(slices.Clone(s.sending)...)
		out.frame(s.channel, end, nil)
		s.closed = true
		delete(out.sessions, s.channel)
	})
}

// release takes the session's receivers from the broker. What they hold stays locked.
func (s *session) release() {
	for _, l := range s.links {
		l.forget()
		l.release()
	}
}

func unattached(handle uint32) error {
	return amqp.Errorf(amqp.CondUnattachedHandle, "no link has handle %d", handle)
}
