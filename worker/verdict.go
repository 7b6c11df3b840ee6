package worker

import "time"

// A Reason says in one word why a request ends or waits. It is the same word in the event, the span, the log and the metric.
type Reason string

// Why a request waits.
const (
	WaitOperation   Reason = "operation"   // ARM works on it
	WaitThrottle    Reason = "throttle"    // 429, of this request or of a neighbour in the subscription
	WaitConflict    Reason = "conflict"    // another change of the pool is under way
	WaitDenied      Reason = "denied"      // no right, perhaps not yet
	WaitUnavailable Reason = "unavailable" // ARM, the network or the token endpoint gave no answer
	WaitRestart     Reason = "restart"     // the operation was forgotten, the connection is still there
	WaitNotBefore   Reason = "notBefore"   // the requester's own wish
	WaitPublish     Reason = "publish"     // ended, and the event could not be published
	WaitPanic       Reason = "panic"       // a fault in this program
	WaitVerify      Reason = "verify"      // gone, ARM says, and read back until it is
	WaitExpand      Reason = "expand"      // a selector that becomes requests
	WaitVersion     Reason = "version"     // of its state: for a worker of the release that wrote it
	WaitRedelivered Reason = "redelivered" // its deliveries end unsettled: it kills the process, or is near what does
)

// How a request ends: the event's data.outcome.
const (
	EndDeleted          Reason = "deleted"
	EndAbsent           Reason = "absent"
	EndDryRun           Reason = "dryRun"
	EndStatusMismatch   Reason = "statusMismatch"
	EndEndpointMismatch Reason = "endpointMismatch"
	EndProtected        Reason = "protected"
	EndNoMatch          Reason = "noMatch"
	EndCancelled        Reason = "cancelled"
	EndExpanded         Reason = "expanded"
	EndRejected         Reason = "rejected"
	EndFailed           Reason = "failed"
	EndTimedOut         Reason = "timedOut"
	EndInvalid          Reason = "invalid"
	EndOutOfScope       Reason = "outOfScope"
)

// Error codes of this program, beside those of ARM.
const (
	CodeInvalidRequest    = "InvalidRequest"
	CodeUnsupportedEvent  = "UnsupportedEvent"
	CodeNoSearchScope     = "NoSearchScope"
	CodeRequestTooLarge   = "RequestTooLarge"
	CodeOutOfScope        = "OutOfScope"
	CodeTimedOut          = "TimedOut"
	CodeTooManyDeliveries = "TooManyDeliveries"
	CodeMessageExpired    = "MessageExpired"
	CodeStillPresent      = "ConnectionStillPresent"
	CodeInternalError     = "InternalError"
)

// An End is how a request ended, as the event tells it. It travels in the Attempt when the event could not be published.
type End struct {
	Outcome      Reason    `json:"outcome"`
	At           time.Time `json:"at"`
	HTTPStatus   int       `json:"httpStatus,omitzero"`
	ARMRequestID string    `json:"armRequestId,omitzero"`
	Verified     bool      `json:"verified,omitzero"` // read back, and gone
	Expected     string    `json:"expected,omitzero"`
	Found        string    `json:"found,omitzero"`
	Code         string    `json:"code,omitzero"`
	Message      string    `json:"message,omitzero"`
}

// failed tells whether the message goes to the dead-letter queue.
func (e End) failed() bool { return eventTypes[e.Outcome] == typeFailed }

// gone tells whether the end says that the connection is not there any more.
func (e End) gone() bool { return e.Outcome == EndDeleted || e.Outcome == EndAbsent }

// A Verdict is what becomes of a message. The three constructors below are the only makers; expand adds children.
type Verdict struct {
	Reason   Reason
	Children []child   // requests that come of this one: they are sent before anything else
	Next     Attempt   // the state as it is now; of the successor where there is one
	End      *End      // the request ends: publish this, then complete or dead-letter
	Until    time.Time // the request waits: a successor at this time, then complete
	Cause    error     // neither: the step was not finished, and is repeated when the message comes back
}

// longestMessage, in bytes, is what an event and a dead-letter description carry of an error.
const longestMessage = 2048

// end is for everything that ends a request.
func end(a Attempt, e End) Verdict {
	e.Message = cut(e.Message, longestMessage)
	return Verdict{Reason: e.Outcome, Next: a, End: &e}
}

// park is for everything that has to wait. ARM is not asked again before the time, except that giving up is not put off.
func park(a Attempt, until time.Time, why Reason) Verdict {
	a.Hop++
	a.Due, a.Why = until, why
	if a.End == nil && until.After(a.GiveUpAt) {
		until = a.GiveUpAt
	}
	return Verdict{Reason: why, Next: a, Until: until}
}

// giveBack is for a step that could not be finished: the lock is lost, a drain ran out of time, the broker takes nothing.
func giveBack(cause error) Verdict { return Verdict{Reason: "givenBack", Cause: cause} }
