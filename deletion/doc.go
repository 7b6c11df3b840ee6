// Package deletion knows Azure Resource Manager and one operation of it: MHSM Private Endpoint Connections - Delete.
//
// It parses what a request names ([ConnectionID], [Request]), asks ARM once ([Client.Start], [Client.Poll],
// [Client.Read]) and says in one word what the answer means (an [Outcome] of some [Kind]). It never waits: what has to
// be asked again later, and when, is part of the Outcome. The meaning of an answer is decided by one pure function,
// classify, because a status alone does not tell: 409 can be a lock that a person must remove or a neighbour's change
// that is over in a second, and the 200 of a polled Location can be the end or the connection itself, still there.
//
// Two things are guarded here because everything passes here. An id is parsed into its names, each checked against
// Azure's rules, and rebuilt, so that no segment can escape its place in a URL. And no request, hence no bearer token,
// leaves for a host that is not trusted (see trust).
//
// The package knows nothing of messages, queues or events.
package deletion
