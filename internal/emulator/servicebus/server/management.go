package server

import (
	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
)

const (
	// A peek returns fewer messages than asked for where they would be larger together.
	maxPeekBytes = 256 << 10
	maxPeekCount = 1000
)

// operations of $management, by name.
var operations = map[string]func(*broker.Entity, amqp.Map) (response, error){
	"com.microsoft:renew-lock":                 renewLocks,
	"com.microsoft:peek-message":               peek,
	"com.microsoft:schedule-message":           schedule,
	"com.microsoft:cancel-scheduled-message":   cancelScheduled,
	"com.microsoft:receive-by-sequence-number": receiveDeferred,
	"com.microsoft:update-disposition":         updateDisposition,
	"com.microsoft:renew-session-lock":         refuseSession,
	"com.microsoft:get-session-state":          refuseSession,
	"com.microsoft:set-session-state":          refuseSession,
	"com.microsoft:get-message-sessions":       noSessions,
}

// manage carries out a request to the $management of an entity.
func (c *conn) manage(e *broker.Entity, req *request) (response, error) {
	run, ok := operations[req.operation]
	if !ok {
		return response{}, amqp.Errorf(amqp.CondNotImplemented, "operation %q of $management is not supported", req.operation)
	}
	body, ok := req.body.(amqp.Map)
	if !ok {
		return response{}, amqp.Errorf(amqp.CondArgumentError, "the body of a %s request must be a map", req.operation)
	}
	return run(e, body)
}

func renewLocks(e *broker.Entity, body amqp.Map) (response, error) {
	tokens, err := argument[amqp.UUID](body, "lock-tokens")
	if err != nil {
		return response{}, err
	}
	expirations := make(amqp.Array, len(tokens))
	for i, token := range tokens {
		until, err := e.Renew(broker.Token(token))
		if err != nil {
			return response{}, err
		}
		expirations[i] = until
	}
	return ok(amqp.Map{{Key: "expirations", Value: expirations}}), nil
}

func peek(e *broker.Entity, body amqp.Map) (response, error) {
	from, okFrom := body.Get("from-sequence-number").(int64)
	count, okCount := body.Get("message-count").(int32)
	if !okFrom || !okCount || count < 1 {
		return response{}, amqp.Errorf(amqp.CondArgumentError, "from-sequence-number (long) and a positive message-count (int) are needed")
	}
	var messages amqp.List
	size := 0
	for _, d := range e.Peek(from, int(min(count, maxPeekCount))) {
		encoded := encodeDelivery(nil, d, peekView)
		if size += len(encoded); size > maxPeekBytes && len(messages) > 0 {
			break
		}
		messages = append(messages, amqp.Map{{Key: "message", Value: encoded}})
	}
	if len(messages) == 0 {
		return response{status: 204, body: amqp.Map{}}, nil
	}
	return ok(amqp.Map{{Key: "messages", Value: messages}}), nil
}

func schedule(e *broker.Entity, body amqp.Map) (response, error) {
	entries, isList := body.Get("messages").(amqp.List)
	if !isList || len(entries) == 0 {
		return response{}, amqp.Errorf(amqp.CondArgumentError, "messages must be a list that is not empty")
	}
	messages := make([]*broker.Message, len(entries))
	for i, entry := range entries {
		fields, _ := entry.(amqp.Map)
		encoded, isBinary := fields.Get("message").([]byte)
		if !isBinary {
			return response{}, amqp.Errorf(amqp.CondArgumentError, "entry %d of messages has no message (binary)", i)
		}
		if len(encoded) > e.MaxMessageSize() { // the condition is unverified
			return response{}, amqp.Errorf(amqp.CondMessageTooLarge, "The message is larger than the limit of %d bytes.", e.MaxMessageSize())
		}
		var err error
		if messages[i], err = newMessage(encoded); err != nil {
			return response{}, err
		}
	}
	numbers, err := e.Send(messages...)
	if err != nil {
		return response{}, err
	}
	return ok(amqp.Map{{Key: "sequence-numbers", Value: arrayOf(numbers)}}), nil
}

func cancelScheduled(e *broker.Entity, body amqp.Map) (response, error) {
	numbers, err := argument[int64](body, "sequence-numbers")
	if err != nil {
		return response{}, err
	}
	return ok(amqp.Map{}), e.CancelScheduled(numbers...)
}

func receiveDeferred(e *broker.Entity, body amqp.Map) (response, error) {
	numbers, err := argument[int64](body, "sequence-numbers")
	if err != nil {
		return response{}, err
	}
	mode := broker.PeekLock
	if settle := body.Get("receiver-settle-mode"); settle == uint32(0) || settle == uint8(0) {
		mode = broker.ReceiveAndDelete
	}
	deliveries, err := e.ReceiveDeferred(mode, numbers...)
	if err != nil {
		return response{}, err
	}
	messages := make(amqp.List, len(deliveries))
	for i, d := range deliveries {
		entry := amqp.Map{{Key: "message", Value: encodeDelivery(nil, d, receiveView)}}
		if mode == broker.PeekLock {
			entry = append(entry, amqp.Entry{Key: "lock-token", Value: amqp.UUID(d.Token)})
		}
		messages[i] = entry
	}
	return ok(amqp.Map{{Key: "messages", Value: messages}}), nil
}

// updateDisposition settles by lock token, whatever link or request the lock came by.
func updateDisposition(e *broker.Entity, body amqp.Map) (response, error) {
	tokens, err := argument[amqp.UUID](body, "lock-tokens")
	if err != nil {
		return response{}, err
	}
	status, _ := amqp.Text(body.Get("disposition-status"))
	reason, _ := amqp.Text(body.Get("deadletter-reason"))
	description, _ := amqp.Text(body.Get("deadletter-description"))
	modified, _ := body.Get("properties-to-modify").(amqp.Map)
	properties := propertiesOf(modified)
	for _, t := range tokens {
		token := broker.Token(t)
		switch status {
		case "completed":
			err = e.Complete(token)
		case "abandoned":
			err = e.Abandon(token, properties)
		case "defered": // so spelt on the wire
			err = e.Defer(token, properties)
		case "suspended":
			err = e.DeadLetter(token, reason, description, properties)
		default:
			err = amqp.Errorf(amqp.CondArgumentError, "disposition-status %q is none of completed, abandoned, defered, suspended", status)
		}
		if err != nil {
			return response{}, err
		}
	}
	return ok(amqp.Map{}), nil
}

func refuseSession(e *broker.Entity, _ amqp.Map) (response, error) {
	// That it is this condition on an entity without sessions is unverified.
	return response{}, amqp.Errorf(amqp.CondSessionLockLost, "%q does not have sessions", e.Path())
}

func noSessions(*broker.Entity, amqp.Map) (response, error) {
	return response{status: 204, body: amqp.Map{}}, nil
}

// argument reads an array that is not empty; one value stands for an array of one.
func argument[T any](body amqp.Map, name string) ([]T, error) {
	value := body.Get(name)
	array, isArray := value.(amqp.Array)
	if !isArray {
		array = amqp.Array{value}
	}
	values := make([]T, len(array))
	for i, item := range array {
		var isT bool
		if values[i], isT = item.(T); !isT {
			return nil, amqp.Errorf(amqp.CondArgumentError, "%s must be an array of %T, not %T", name, values[i], item)
		}
	}
	if len(values) == 0 {
		return nil, amqp.Errorf(amqp.CondArgumentError, "%s must not be empty", name)
	}
	return values, nil
}

func arrayOf[T any](values []T) amqp.Array {
	array := make(amqp.Array, len(values))
	for i, v := range values {
		array[i] = v
	}
	return array
}
