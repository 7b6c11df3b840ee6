// Package worker is the heart: a message in, one short step, one verdict, three effects in a fixed order.
//
//	Run     receives, and gives each delivery to
//	handle  which holds the lock, takes the request and its Attempt out of the message, and has it
//	step    ask ARM once (or not at all) and
//	decide  what the answer means for the request: a Verdict, which
//	apply   carries out: 1 schedule the successor, 2 publish the event, 3 settle.
//
// Nothing waits in here. A request that has to wait becomes a scheduled message in the same queue, its body untouched, its
// [Attempt] in a property; the message at hand is completed, and this process forgets it. Any replica takes the next step.
//
// A crash between two effects repeats the step on another replica, so every id is the same on every repeat of a step and
// different on the next one. Ids hang on the lineage: the request id and the sequence number of the message that began it.
// apply.go says, effect by effect, what a crash there leaves.
//
// A selector, and an array of events, becomes a request for each connection (expand): what a search finds is written into the
// successor before the first of them is sent, for a repeated search would miss those that are gone by then.
//
// decide and admit are pure: state, answer, time and policy in, verdict out. testdata/decisions.golden is their table.
package worker
