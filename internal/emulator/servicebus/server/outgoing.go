package server

import (
	"bytes"
	"math"
	"time"

	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// transferOverhead is room in a frame for the header and the transfer itself.
const transferOverhead = 128

// An outgoing is the server's sending end of a link.
type outgoing struct {
	entity   *broker.Entity // nil for replies
	mode     broker.Mode
	consumer *broker.Consumer // nil for replies

	// The writer's.
	pending []pending
	count   uint32 // deliveries sent: the link's delivery count
	limit   uint32 // the delivery count at which the client's credit is used up
	drain   bool
	closed  bool
}

// pending is a delivery that waits for the client's credit or window: a message
// of the broker or an encoded reply.
type pending struct {
	delivery *broker.Delivery
	payload  []byte // what is left to be sent
	started  bool
	cost     int
}

// queue takes a delivery from the broker, under the broker's lock.
func (l *link) queue(d *broker.Delivery) {
	l.enqueue(pending{delivery: d, cost: eventCost})
}

// reply queues an encoded message; it waits for credit if it has to.
func (l *link) reply(payload []byte) {
	l.enqueue(pending{payload: payload, cost: eventCost + len(payload)})
}

func (l *link) enqueue(p pending) {
	out := l.session.conn.out
	out.charge(p.cost)
	out.post(func() {
		l.out.pending = append(l.out.pending, p)
		if l.out.closed {
			out.drop(l)
		} else {
			out.pump(l)
		}
	})
}

// takeCredit passes the client's credit on to the broker and answers a drain.
func (l *link) takeCredit(f *amqp.Flow) {
	limit := min(*f.LinkCredit, math.MaxInt32) // more would wrap around
	if f.DeliveryCount != nil {
		limit += *f.DeliveryCount
	}
	out := l.session.conn.out
	out.post(func() {
		l.out.limit = limit
		out.pump(l)
	})
	if l.out.consumer != nil {
		l.out.consumer.SetLimit(limit)
	}
	if !f.Drain {
		return
	}
	if l.out.consumer != nil {
		l.out.consumer.Drain()
	}
	out.post(func() {
		l.out.drain = true
		out.pump(l)
	})
}

// pump sends what credit and window allow.
func (o *outbox) pump(links ...*link) {
	for _, l := range links {
		for len(l.out.pending) > 0 && o.send(l, &l.out.pending[0]) {
			o.charge(-l.out.pending[0].cost)
			l.out.pending[0] = pending{}
			l.out.pending = l.out.pending[1:]
		}
		if len(l.out.pending) == 0 {
			l.out.pending = nil
		}
		if l.out.drain && l.out.idle() {
			o.answerDrain(l)
		}
	}
}

// idle reports whether there is nothing to send on the link, or no credit for it.
func (l *outgoing) idle() bool {
	return len(l.pending) == 0 || !l.pending[0].started && l.credit() <= 0
}

// credit is how many more deliveries the client wants; less than none if it changed its mind.
func (l *outgoing) credit() int32 { return int32(l.limit - l.count) }

// send sends one delivery and reports whether it is complete.
func (o *outbox) send(l *link, p *pending) bool {
	s := l.session
	if o.broken || s.closed || s.window == 0 {
		return false
	}
	transfer := &amqp.Transfer{Handle: l.handle, Settled: l.out.mode == broker.ReceiveAndDelete || p.delivery == nil}
	if !p.started {
		if l.out.credit() <= 0 {
			return false
		}
		if p.delivery != nil {
			o.scratch = encodeDelivery(o.scratch[:0], p.delivery, receiveView)
			p.payload = o.scratch
		}
		o.start(l, p, transfer)
	}
	for s.window > 0 {
		chunk := p.payload[:min(len(p.payload), o.maxFrame-transferOverhead)]
		p.payload = p.payload[len(chunk):]
		transfer.More = len(p.payload) > 0
		s.window--
		s.outgoing++
		o.frame(s.channel, transfer, chunk)
		if !transfer.More {
			return true
		}
		transfer = &amqp.Transfer{Handle: l.handle, Settled: transfer.Settled}
	}
	p.payload = bytes.Clone(p.payload) // the scratch buffer is used again
	return false
}

// start begins a delivery: it uses up one credit and gets an id and a tag.
func (o *outbox) start(l *link, p *pending, transfer *amqp.Transfer) {
	s := l.session
	id := s.deliveryID
	s.deliveryID++
	l.out.count++
	p.started = true
	transfer.DeliveryID = &id
	transfer.MessageFormat = new(uint32(0))
	transfer.DeliveryTag = []byte{}
	if p.delivery == nil {
		return
	}
	s.conn.server.count("deliver", l.node.path)
	tag := amqp.SwapUUID(amqp.UUID(p.delivery.Token))
	transfer.DeliveryTag = tag[:]
	if !transfer.Settled {
		s.mu.Lock()
		s.unsettled[id] = unsettled{link: l, token: p.delivery.Token, messageID: p.delivery.Message.ID}
		s.mu.Unlock()
	}
}

// answerDrain gives up the credit that is left.
func (o *outbox) answerDrain(l *link) {
	l.out.drain = false
	if l.out.credit() > 0 {
		l.out.count = l.out.limit
	}
	o.flow(l.session, &amqp.Flow{
		Handle:        new(l.handle),
		DeliveryCount: new(l.out.count),
		LinkCredit:    new(uint32(0)),
		Drain:         true,
	})
}

// drop forgets what has not been sent on links that are gone. Messages of which
// the client has seen nothing become available at once.
func (o *outbox) drop(links ...*link) {
	for _, l := range links {
		if l.out == nil {
			continue
		}
		for _, p := range l.out.pending {
			o.charge(-p.cost)
			if p.delivery != nil && !p.started && time.Now().Before(p.delivery.LockedUntil) {
				// An error means that the lock has run out this instant: available as well.
				_ = l.out.entity.Release(p.delivery.Token)
			}
		}
		l.out.pending, l.out.closed = nil, true
	}
}
