// Package queue is the worker's view of Service Bus: receive, hold, send, settle.
//
// A [Delivery] is a message under a lock. [Queue.Hold] takes charge of that lock: it renews it when a step outlives half of
// it, and cancels the step's context when it is lost. A step ends by settling, and settling is the commit point: what was
// sent before it (a successor in the same queue, an event in another entity) must be harmless to send again, because a crash
// in between repeats the step. Duplicate detection makes it so, by the MessageID, which the worker derives.
//
// The wait between two steps is never spent here. [Queue.Send] with a time in the future is a plain send with a scheduled
// enqueue time, not a request to $management, which costs ten times as much on the Standard tier.
//
// Two things about the SDK shape this package. A message that was received before its connection was cut can never be
// settled as such, and trying takes the new connection down; its lock token can, so a Delivery remembers which link it came
// over. And a receive that returns nothing and no error is how the SDK says that the link is gone.
//
// The package knows nothing of ARM or of what the messages mean.
package queue
