package server

import (
	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
)

const (
	deadLetterReason      = "DeadLetterReason"
	deadLetterDescription = "DeadLetterErrorDescription"
)

// disposition settles deliveries to the client and answers each.
func (s *session) disposition(d *amqp.Disposition) error {
	if d.Role != amqp.RoleReceiver {
		return nil // the client is done with what it sent; it was settled when it was acknowledged
	}
	last := d.First
	if d.Last != nil {
		last = *d.Last
	}
	if last-d.First >= maxDispositionRange {
		return amqp.Errorf(amqp.CondInvalidField, "a disposition of deliveries %d to %d", d.First, last)
	}
	if d.State == nil && d.Settled {
		d.State = &amqp.Released{}
	}
	if _, inTransit := d.State.(*amqp.Received); inTransit || d.State == nil {
		return nil
	}
	for id := d.First; ; id++ {
		s.settle(id, d)
		if id == last {
			return nil
		}
	}
}

// settle settles one delivery. A client waits for the answer also when the
// delivery is unknown, but breaks if its link is gone.
func (s *session) settle(id uint32, d *amqp.Disposition) {
	s.mu.Lock()
	delivery, known := s.unsettled[id]
	delete(s.unsettled, id)
	s.mu.Unlock()

	op := fault.Operation{Name: "settle", MessageID: delivery.messageID}
	if known {
		if delivery.link.gone() {
			return
		}
		op.Target = delivery.link.out.entity.Path()
	}
	s.conn.executeDurably(op, func() error {
		if !known {
			return broker.ErrLockLost
		}
		return settleAs(delivery.link.out.entity, delivery.token, d.State)
	}, func(err error) {
		if !d.Settled {
			s.post(&amqp.Disposition{Role: amqp.RoleSender, First: id, Settled: true, State: outcomeOf(d.State, err)})
		}
	})
}

// settleAs carries out an outcome.
func settleAs(e *broker.Entity, token broker.Token, outcome amqp.Composite) error {
	switch outcome := outcome.(type) {
	case *amqp.Accepted:
		return e.Complete(token)
	case *amqp.Released:
		return e.Release(token)
	case *amqp.Modified:
		if outcome.UndeliverableHere {
			return e.Defer(token, propertiesOf(outcome.MessageAnnotations))
		}
		return e.Abandon(token, propertiesOf(outcome.MessageAnnotations))
	case *amqp.Rejected:
		reason, description, properties := deadLetterDetails(outcome.Error)
		return e.DeadLetter(token, reason, description, properties)
	}
	return amqp.Errorf(amqp.CondNotImplemented, "outcome %T is not supported", outcome)
}

// deadLetterDetails takes reason and description out of the info of Service
// Bus's own condition; of another condition they are the error itself (unverified).
func deadLetterDetails(e *amqp.Error) (reason, description string, properties map[string]any) {
	if e == nil {
		return "", "", nil
	}
	if e.Condition != amqp.CondDeadLetter {
		return string(e.Condition), e.Description, nil
	}
	properties = propertiesOf(e.Info)
	reason, _ = properties[deadLetterReason].(string)
	description, _ = properties[deadLetterDescription].(string)
	delete(properties, deadLetterReason)
	delete(properties, deadLetterDescription)
	return reason, description, properties
}

// outcomeOf is the server's answer to an outcome: the same one, but rejected
// without its error, which clients would take for a failure to settle.
func outcomeOf(state amqp.Composite, err error) amqp.Composite {
	if err != nil {
		return &amqp.Rejected{Error: asError(err)}
	}
	if _, ok := state.(*amqp.Rejected); ok {
		return &amqp.Rejected{}
	}
	return state
}

// gone reports whether the link has been detached by either side.
func (l *link) gone() bool { return l.detached.Load() || l.session.links[l.handle] != l }
