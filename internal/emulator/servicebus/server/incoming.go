package server

import (
	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// An incoming is the server's receiving end of a link.
type incoming struct {
	maxSize  int    // bytes of one delivery
	credit   uint32 // deliveries that the client may still send; one that sends more is tolerated
	received uint32 // deliveries received: the link's delivery count
	partial  *inbound
}

// inbound is a delivery from the client.
type inbound struct {
	id      uint32
	settled bool
	batch   bool
	payload []byte
	refused error // why it is not taken, whatever is in it
}

// add takes one frame and returns the delivery that it completes, nil if there
// is more to come. An error ends the link.
func (in *incoming) add(t *amqp.Transfer, payload []byte) (*inbound, error) {
	d := in.partial
	if d == nil {
		if t.DeliveryID == nil {
			return nil, amqp.Errorf(amqp.CondInvalidField, "a transfer that starts a delivery without delivery-id")
		}
		d = &inbound{id: *t.DeliveryID, batch: t.MessageFormat != nil && *t.MessageFormat == amqp.BatchFormat}
	}
	in.partial = nil
	if t.Aborted {
		return nil, nil
	}
	d.settled = d.settled || t.Settled
	switch {
	case d.refused != nil:
	case len(d.payload)+len(payload) > in.maxSize:
		// The Azure SDK for JavaScript notices a rejection, but waits in vain for its outcome if the link is detached.
		d.refused = amqp.Errorf(amqp.CondMessageTooLarge, "The message is larger than the limit of %d bytes.", in.maxSize)
		d.payload = nil
	case d.payload == nil:
		d.payload = payload
	default:
		d.payload = append(d.payload, payload...)
	}
	if t.More {
		in.partial = d
		return nil, nil
	}
	in.credit--
	in.received++
	return d, nil
}

// accept passes a delivery on to the node that the link is attached to.
func (s *session) accept(l *link, d *inbound) {
	if d.refused != nil {
		s.acknowledge(d, d.refused)
		return
	}
	if l.node.cbs || l.node.management {
		s.serveRequest(l, d)
		return
	}
	entity := l.node.entity
	messages, err := parseDelivery(d)
	op := fault.Operation{Name: "send", Target: entity.Path()}
	if err == nil && len(messages) > 0 {
		op.MessageID = messages[0].ID
	}
	s.conn.executeDurably(op, func() error {
		if err != nil {
			return err
		}
		_, err := entity.Send(messages...)
		return err
	}, func(err error) { s.acknowledge(d, err) })
}

// acknowledge tells the client what became of its delivery. Clients take any
// outcome but rejected for success.
func (s *session) acknowledge(d *inbound, err error) {
	if d.settled {
		return
	}
	var state amqp.Composite = &amqp.Accepted{}
	if err != nil {
		state = &amqp.Rejected{Error: asError(err)}
	}
	s.post(&amqp.Disposition{Role: amqp.RoleReceiver, First: d.id, Settled: true, State: state})
}

// parseDelivery decodes a message, or each message of a batch.
func parseDelivery(d *inbound) ([]*broker.Message, error) {
	if !d.batch {
		m, err := newMessage(d.payload)
		return []*broker.Message{m}, err
	}
	envelope, err := amqp.ParseMessage(d.payload)
	if err != nil {
		return nil, err
	}
	sections, ok := envelope.Body.(amqp.Data)
	if !ok {
		return nil, amqp.Errorf(amqp.CondInvalidField, "a batch whose body is not data sections")
	}
	messages := make([]*broker.Message, len(sections))
	for i, section := range sections {
		if messages[i], err = newMessage(section); err != nil {
			return nil, err
		}
	}
	return messages, nil
}
