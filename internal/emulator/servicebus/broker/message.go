package broker

import (
	"crypto/rand"
	"time"
)

// A Message is the content of a message, immutable once sent and shared by the copies of a topic.
type Message struct {
	ID           string        // message-id as text, "" if none; the key of duplicate detection
	TTL          time.Duration // the sender's time to live; 0 = none
	ScheduledFor time.Time     // when it becomes active; zero or past = at once
	Size         int           // encoded size in bytes, as sent
	Fields       Fields        // what correlation filters look at
	Content      any           // the caller's own representation; never looked into
}

// Fields are the properties of a message that correlation filters compare.
type Fields struct {
	CorrelationID, To, ReplyTo, Subject, SessionID, ReplyToSessionID, ContentType string

	Properties map[string]any // application properties
}

// State is the state of a message in its entity; the values are those on the wire.
type State int

const (
	Active State = iota // available or locked
	Deferred
	Scheduled
)

// Mode says what handing out a message does to it.
type Mode int

const (
	PeekLock         Mode = iota // locks it until it is settled
	ReceiveAndDelete             // removes it
)

// A Token names a lock, in the byte order of RFC 9562.
type Token [16]byte

// newToken returns a random (version 4) uuid.
func newToken() Token {
	var t Token
	rand.Read(t[:])
	t[6] = t[6]&0x0f | 0x40
	t[8] = t[8]&0x3f | 0x80
	return t
}

// A Delivery is one message as one receiver, or a peek, sees it: a snapshot that no later event changes.
type Delivery struct {
	Message *Message

	SequenceNumber         int64
	EnqueuedSequenceNumber int64 // the number in the entity that the sender sent to, 0 in that one

	EnqueuedTime time.Time // when it became active; while it is scheduled, when it was sent (unverified)
	LockedUntil  time.Time // zero unless this delivery holds the lock
	ExpiresAt    time.Time // zero = never, or not before it is active
	Token        Token     // zero unless this delivery holds the lock

	DeliveryCount    int // failed deliveries before this one, 0 on the first
	State            State
	DeadLetterSource string // path of the entity that dead-lettered it (unverified), "" if none did

	// Properties were set by Abandon, Defer and DeadLetter and win over the sender's application
	// properties. The map is never changed after it was handed out, nor may the receiver change it.
	Properties map[string]any
}
