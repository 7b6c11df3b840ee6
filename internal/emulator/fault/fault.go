// Package fault says what goes wrong in the emulator, so that a test can make every effect of a client fail in every way that a
// network and a service have: every Service Bus operation, every exchange with ARM, every token request.
package fault

import "time"

// The services of the emulator.
const (
	ServiceBus = "servicebus"
	ARM        = "arm"
	Identity   = "identity"
)

// An Operation is one thing that a client asks for.
type Operation struct {
	Service   string // ServiceBus, ARM or Identity
	Name      string // send, settle, attach, put-token or a $management operation; of HTTP the method
	Target    string // the entity's path; of HTTP the path and query
	Sends     bool   // of attach: the client is to send
	MessageID string // of the first message that is sent or settled; empty where there is none
}

// A Kind is a way to fail.
type Kind string

const (
	Refused    Kind = "refused"    // not applied, and the client is told so
	Unheard    Kind = "unheard"    // not applied; the connection is cut
	Unanswered Kind = "unanswered" // applied; the connection is cut in place of the answer
	Silent     Kind = "silent"     // applied; no answer comes, and the connection stays
)

// Kinds is every kind there is.
var Kinds = []Kind{Refused, Unheard, Unanswered, Silent}

// A Fault is what happens to one operation. The zero Fault is none.
type Fault struct {
	Delay     time.Duration // before the operation is carried out
	Kind      Kind          // empty: it is carried out and answered
	Condition string        // of Refused at Service Bus: the AMQP error condition; empty: com.microsoft:server-busy
	Status    int           // of Refused over HTTP; 0: 503
}

// An Injector chooses the fault of each operation. It is called once for each, before it is carried out, by many goroutines
// and without any lock of the emulator held. A nil Injector chooses none.
type Injector func(Operation) Fault

// For asks the injector, if there is one.
func (in Injector) For(op Operation) Fault {
	if in == nil {
		return Fault{}
	}
	return in(op)
}
