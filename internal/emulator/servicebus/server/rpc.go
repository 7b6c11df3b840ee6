package server

import (
	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// A request is a message to $cbs or $management.
type request struct {
	id         any
	replyTo    string
	operation  string
	properties amqp.Map // application properties
	body       any
}

// A response is what an operation returns besides an error.
type response struct {
	status int32
	body   any
}

func ok(body amqp.Map) response { return response{status: 200, body: body} }

// serveRequest carries out a request and sends the reply on the link that the
// client receives on. It is acknowledged as well: the Azure SDK for Go waits for
// that before it looks for the reply.
func (s *session) serveRequest(l *link, d *inbound) {
	req, err := parseRequest(d.payload)
	if err != nil {
		s.acknowledge(d, err)
		return
	}
	receiver := s.replyLink(l, req.replyTo)
	if receiver == nil {
		s.acknowledge(d, amqp.Errorf(amqp.CondNotFound, "no link receives replies for %q from %q", req.replyTo, l.node.path))
		return
	}
	var resp response
	op := fault.Operation{Name: req.operation, Target: l.node.path, MessageID: req.messageID(l.node.entity)}
	s.conn.executeDurably(op, func() error {
		if l.node.cbs {
			resp, err = s.conn.serveCBS(req)
		} else {
			resp, err = s.conn.manage(l.node.entity, req)
		}
		return err
	}, func(err error) {
		reply, encodeErr := encodeReply(req, resp, err)
		if encodeErr != nil {
			s.acknowledge(d, encodeErr)
			return
		}
		s.acknowledge(d, nil)
		receiver.reply(reply)
	})
}

func parseRequest(b []byte) (*request, error) {
	m, err := amqp.ParseMessage(b)
	if err != nil {
		return nil, err
	}
	if m.Properties == nil {
		return nil, amqp.Errorf(amqp.CondInvalidField, "a request without properties, message-id and reply-to are needed")
	}
	req := &request{id: m.Properties.MessageID, replyTo: m.Properties.ReplyTo, properties: m.ApplicationProperties}
	req.operation, _ = amqp.Text(m.ApplicationProperties.Get("operation"))
	if value, ok := m.Body.(amqp.Value); ok {
		req.body = value.Value
	}
	return req, nil
}

// messageID is that of the message whose lock token the request has.
func (r *request) messageID(e *broker.Entity) string {
	body, ok := r.body.(amqp.Map)
	if !ok || e == nil {
		return ""
	}
	tokens, err := argument[amqp.UUID](body, "lock-tokens")
	if err != nil {
		return "" // there are requests without
	}
	return e.MessageID(broker.Token(tokens[0]))
}

// replyLink finds the link for replies: by the address of its target, by its
// name, or as the only one from the same node. Clients differ in what they name.
func (s *session) replyLink(l *link, replyTo string) *link {
	var candidates []*link
	for _, other := range s.links {
		if other.out == nil || other.detached.Load() || other.node != l.node {
			continue
		}
		if replyTo != "" && (other.target == replyTo || other.name == replyTo) {
			return other
		}
		candidates = append(candidates, other)
	}
	if len(candidates) == 1 {
		return candidates[0]
	}
	return nil
}

// encodeReply writes the status under both names that clients look for.
func encodeReply(req *request, resp response, err error) ([]byte, error) {
	description := "OK"
	var condition any
	if err != nil {
		e := asError(err)
		resp = response{status: statusCode(e.Condition), body: amqp.Map{}}
		description, condition = e.Description, e.Condition
	}
	m := &amqp.Message{
		Properties: &amqp.Properties{CorrelationID: req.id},
		ApplicationProperties: amqp.Map{
			{Key: "statusCode", Value: resp.status}, {Key: "status-code", Value: resp.status},
			{Key: "statusDescription", Value: description}, {Key: "status-description", Value: description},
		},
		Body: amqp.Value{Value: resp.body},
	}
	if condition != nil {
		m.ApplicationProperties = append(m.ApplicationProperties,
			amqp.Entry{Key: "errorCondition", Value: condition}, amqp.Entry{Key: "error-condition", Value: condition})
	}
	return m.Append(nil)
}
