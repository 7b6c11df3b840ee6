// Package dashboard is a web page for operators: the way of requests through the queue, what ended and what is dead, as it happens, and
// what an Operator can do about it.
//
// It reads Service Bus, not a process, so that it shows the same whether no worker runs or ten. One goroutine, the watch, reads for all who
// look, and only while somebody does: the queue and its dead letters by peeking through them, the events from where it was. What it keeps is
// bounded, however much there is: counts of all, the most urgent few hundred, the newest few hundred ends. A page asks for the picture
// after the one it has and waits for the answer.
//
// Everything that comes of messages may have been written by anybody. The server hands it out as JSON only, and the page shows it as text.
package dashboard
