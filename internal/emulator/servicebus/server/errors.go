package server

import (
	"errors"

	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// reported lists the condition and the status of a $management reply under
// which Service Bus reports an error of the broker.
var reported = []struct {
	err       error
	condition amqp.Symbol
	words     string // of the service, before the broker's: logs are searched for them
}{
	{broker.ErrLockLost, amqp.CondMessageLockLost, lockLost},
	{broker.ErrMessageNotFound, amqp.CondMessageNotFound, ""},
	{broker.ErrNotFound, amqp.CondNotFound, ""},
	{broker.ErrNotAllowed, amqp.CondNotAllowed, ""},
	{broker.ErrFull, amqp.CondResourceLimit, ""},
	{broker.ErrDisabled, amqp.CondEntityDisabled, "Messaging entity is currently disabled. "},
}

const lockLost = "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue. "

// asError is what a client is told of an error.
func asError(err error) *amqp.Error {
	if e, ok := errors.AsType[*amqp.Error](err); ok {
		return e
	}
	for _, r := range reported {
		if errors.Is(err, r.err) {
			return &amqp.Error{Condition: r.condition, Description: r.words + err.Error()}
		}
	}
	return &amqp.Error{Condition: amqp.CondInternalError, Description: err.Error()}
}

// statusCode is the status of a reply that tells a condition. Clients give up
// on 401, 404 and 410, and take most others for a broken connection.
func statusCode(condition amqp.Symbol) int32 {
	switch condition {
	case amqp.CondMessageLockLost, amqp.CondSessionLockLost:
		return 410
	case amqp.CondMessageNotFound, amqp.CondNotFound:
		return 404
	case amqp.CondUnauthorized:
		return 401
	case amqp.CondNotAllowed, amqp.CondResourceLimit:
		return 403
	case amqp.CondNotImplemented:
		return 501
	case amqp.CondInternalError:
		return 500
	case amqp.CondServerBusy:
		return 503
	}
	return 400
}
