// Package amqp encodes and decodes what an AMQP 1.0 server puts on the wire:
// values, performatives, frames and messages.
//
// Values are plain Go values:
//
//	null       nil              timestamp  time.Time (UTC, milliseconds)
//	boolean    bool             uuid       UUID
//	ubyte      uint8            binary     []byte
//	ushort     uint16           string     string
//	uint       uint32           symbol     Symbol
//	ulong      uint64           list       List
//	byte       int8             map        Map
//	short      int16            array      Array
//	int        int32            char       Char
//	long       int64            decimal    Decimal
//	float      float32          described  Described
//	double     float64
//
// Performatives, delivery states, termini and the list sections of a message
// are structs. Each names its fields once, in wire order, and both directions
// follow that list.
//
// The decoder trusts nothing: every length is checked against the bytes that
// are there, nesting is bounded, and what is allocated is bounded by the input.
// Decoded []byte values point into the input.
//
// Source: OASIS AMQP 1.0, parts 1 (types), 2 (transport), 3 (messaging) and 5 (security).
package amqp

import (
	"encoding/hex"
	"fmt"
)

// A Symbol is ASCII text from a constrained domain, such as an error condition.
type Symbol string

// A UUID is in the byte order of RFC 9562.
type UUID [16]byte

// String is the 8-4-4-4-12 form in lower case.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// A Char is one UTF-32 code point, kept even where it is not a valid one.
type Char uint32

// A Decimal is an IEEE 754 decimal number that is carried but not interpreted:
// its 4, 8 or 16 bytes in wire order.
type Decimal string

// A List holds values of any types.
type List []any

// An Array holds values of one type: all of the same Go type and, if
// described, with the same descriptor.
type Array []any

// A Map keeps its entries in wire order, because keys may be of any type.
type Map []Entry

// An Entry is one key and its value.
type Entry struct{ Key, Value any }

// Get returns the value under a string or symbol key, nil if there is none.
func (m Map) Get(key string) any {
	for _, e := range m {
		if k, ok := Text(e.Key); ok && k == key {
			return e.Value
		}
	}
	return nil
}

// Text returns the text of a string or a symbol.
func Text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case Symbol:
		return string(v), true
	}
	return "", false
}

// A Described value carries a descriptor, a ulong or a symbol, that gives it a meaning.
type Described struct{ Descriptor, Value any }

// Error is the AMQP error of a detach, end, close or rejected state, and a Go error.
type Error struct {
	Condition   Symbol
	Description string
	Info        Map
}

// Errorf returns an error with the condition and a formatted description.
func Errorf(condition Symbol, format string, args ...any) *Error {
	return &Error{Condition: condition, Description: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return string(e.Condition) + ": " + e.Description }

// Error conditions of the standard and of Service Bus.
const (
	CondDetachForced     Symbol = "amqp:link:detach-forced"
	CondDecodeError      Symbol = "amqp:decode-error"
	CondFramingError     Symbol = "amqp:connection:framing-error"
	CondInternalError    Symbol = "amqp:internal-error"
	CondInvalidField     Symbol = "amqp:invalid-field"
	CondMessageTooLarge  Symbol = "amqp:link:message-size-exceeded"
	CondNotAllowed       Symbol = "amqp:not-allowed"
	CondNotFound         Symbol = "amqp:not-found"
	CondNotImplemented   Symbol = "amqp:not-implemented"
	CondResourceLimit    Symbol = "amqp:resource-limit-exceeded"
	CondUnattachedHandle Symbol = "amqp:session:unattached-handle"
	CondUnauthorized     Symbol = "amqp:unauthorized-access"

	CondArgumentError   Symbol = "com.microsoft:argument-error"
	CondDeadLetter      Symbol = "com.microsoft:dead-letter"
	CondMessageLockLost Symbol = "com.microsoft:message-lock-lost"
	CondMessageNotFound Symbol = "com.microsoft:message-not-found"
	CondEntityDisabled  Symbol = "com.microsoft:entity-disabled"
	CondServerBusy      Symbol = "com.microsoft:server-busy"
	CondSessionLockLost Symbol = "com.microsoft:session-lock-lost"
)
