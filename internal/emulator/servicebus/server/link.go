package server

import (
	"slices"
	"strings"
	"sync/atomic"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/amqp"
	"hsmsweep/internal/emulator/servicebus/broker"
)

const (
	linkCredit     = 1000    // messages that a client may send ahead
	maxRequestSize = 4 << 20 // bytes of a $cbs or $management request

	sessionFilter = "com.microsoft:session-filter"
)

// A node is what a link is attached to: an entity, the $management of an
// entity, or $cbs.
type node struct {
	path       string
	entity     *broker.Entity
	management bool
	cbs        bool
}

// A link belongs to the reader. The client sends on it (in) or receives (out).
type link struct {
	session *session
	name    string
	handle  uint32
	node    node
	target  string // address of the target; a reply-to may name it
	unwatch func() // forgets to be told of the entity's update or deletion; nil without an entity
	in      *incoming
	out     *outgoing

	detached atomic.Bool // the server has sent detach and ignores the rest; set by the reader or by a deletion
}

// attach answers the client's attach, with a refusal if need be.
func (s *session) attach(a *amqp.Attach) error {
	if s.links[a.Handle] != nil {
		return amqp.Errorf(amqp.CondNotAllowed, "handle %d is in use", a.Handle)
	}
	l := &link{session: s, name: a.Name, handle: a.Handle}
	s.links[a.Handle] = l
	s.conn.execute(fault.Operation{Name: "attach", Target: attachAddress(a), Sends: a.Role == amqp.RoleSender}, func() error {
		return l.open(a)
	}, func(err error) {
		if err != nil {
			l.refuse(a, asError(err))
			return
		}
		l.answer(a)
		l.watch()
	})
	return nil
}

// open finds the node and checks that the client may attach as it asks.
func (l *link) open(a *amqp.Attach) error {
	if _, ok := a.Target.(*amqp.Coordinator); ok {
		return amqp.Errorf(amqp.CondNotImplemented, "transactions are not supported")
	}
	if target, ok := a.Target.(*amqp.Target); ok {
		l.target, _ = amqp.Text(target.Address)
	}
	var err error
	if l.node, err = l.session.conn.resolve(attachAddress(a)); err != nil {
		return err
	}
	clientSends := a.Role == amqp.RoleSender
	if l.node.cbs && l.session.conn.hasCBS(clientSends) {
		return amqp.Errorf(amqp.CondNotAllowed, "A link to the connection's $cbs node has already been opened; use that one or detach it first.")
	}
	if l.node.entity == nil || l.node.management {
		if clientSends {
			l.in = &incoming{credit: linkCredit, maxSize: maxRequestSize}
		} else {
			l.out = &outgoing{}
		}
		return nil
	}
	if clientSends {
		return l.openSender()
	}
	return l.openReceiver(a)
}

// hasCBS reports whether a link to $cbs in this direction is open: the service allows a connection one.
func (c *conn) hasCBS(clientSends bool) bool {
	for _, s := range c.sessions {
		for _, l := range s.links {
			sameWay := clientSends && l.in != nil || !clientSends && l.out != nil
			if l.node.cbs && sameWay && !s.ended && !l.detached.Load() {
				return true
			}
		}
	}
	return false
}

func (l *link) openSender() error {
	if !l.node.entity.CanSend() {
		return amqp.Errorf(amqp.CondNotAllowed, "messages cannot be sent to %q", l.node.path)
	}
	l.in = &incoming{credit: linkCredit, maxSize: l.node.entity.MaxMessageSize()}
	return l.node.entity.Refuses(true)
}

func (l *link) openReceiver(a *amqp.Attach) error {
	if !l.node.entity.CanReceive() {
		return amqp.Errorf(amqp.CondNotAllowed, "messages cannot be received from %q; receive from a subscription", l.node.path)
	}
	for _, entry := range a.Source.Filter {
		if key, _ := amqp.Text(entry.Key); key == sessionFilter {
			return amqp.Errorf(amqp.CondNotAllowed, "%q does not require sessions: open a receiver without one", l.node.path)
		}
	}
	if err := l.node.entity.Refuses(false); err != nil {
		return err
	}
	mode := broker.PeekLock
	if a.SenderSettleMode != nil && *a.SenderSettleMode == amqp.SenderSettled {
		mode = broker.ReceiveAndDelete
	}
	l.out = &outgoing{entity: l.node.entity, mode: mode}
	consumer, err := l.node.entity.Consume(mode, l.queue)
	l.out.consumer = consumer
	return err
}

// answer attaches the server's end of the link. Modes and termini are echoed,
// because clients compare them with what they asked for.
func (l *link) answer(a *amqp.Attach) {
	answer := *a
	answer.Role = !a.Role
	answer.Unsettled, answer.IncompleteUnsettled = nil, false
	answer.Properties, answer.OfferedCapabilities, answer.DesiredCapabilities = nil, nil, nil
	answer.InitialDeliveryCount, answer.MaxMessageSize = nil, nil
	s, out := l.session, l.session.conn.out
	if l.out == nil {
		answer.MaxMessageSize = new(uint64(l.in.maxSize))
		s.post(&answer)
		s.postFlow(l)
		return
	}
	answer.InitialDeliveryCount = new(uint32(0))
	out.post(func() {
		s.sending = append(s.sending, l)
		out.frame(s.channel, &answer, nil)
	})
}

// refuse attaches without a terminus and detaches at once, which is how AMQP
// tells that a link was not made.
func (l *link) refuse(a *amqp.Attach, err *amqp.Error) {
	l.detached.Store(true)
	refusal := &amqp.Attach{
		Name: a.Name, Handle: a.Handle, Role: !a.Role,
		SenderSettleMode: a.SenderSettleMode, ReceiverSettleMode: a.ReceiverSettleMode,
	}
	if a.Role == amqp.RoleReceiver {
		refusal.Target = a.Target
		refusal.InitialDeliveryCount = new(uint32(0))
	} else {
		refusal.Source = a.Source
	}
	l.session.post(refusal)
	l.session.post(&amqp.Detach{Handle: l.handle, Closed: true, Error: err})
}

// watch detaches the link when its entity is updated or deleted. It must follow answer: an attach comes before its detach.
func (l *link) watch() {
	if l.node.entity == nil {
		return
	}
	l.unwatch = l.node.entity.OnClose(func(deleted bool) {
		if deleted {
			l.fail(amqp.Errorf(amqp.CondNotFound, "The messaging entity '%s' was deleted.", l.node.path))
		} else {
			l.fail(amqp.Errorf(amqp.CondDetachForced, "The link '%s' is force detached: '%s' was updated.", l.name, l.node.path))
		}
	})
}

// forget ends watch.
func (l *link) forget() {
	if l.unwatch != nil {
		l.unwatch()
	}
}

// fail detaches the link with an error; what the client still sends on it is ignored.
func (l *link) fail(err *amqp.Error) {
	if l.detached.CompareAndSwap(false, true) {
		l.finish(err)
	}
}

// finish releases the link and sends detach, the last frame on its handle.
func (l *link) finish(err *amqp.Error) {
	l.release()
	s, out := l.session, l.session.conn.out
	out.post(func() {
		out.drop(l)
		if s.closed {
			return
		}
		s.sending = slices.DeleteFunc(s.sending, func(other *link) bool { return other == l })
		out.frame(s.channel, &amqp.Detach{Handle: l.handle, Closed: true, Error: err}, nil)
	})
}

// release takes the receiver from the broker.
func (l *link) release() {
	if l.out != nil && l.out.consumer != nil {
		l.out.consumer.Close()
	}
}

// attachAddress is the address of the server's end of the link, "" if there is none.
func attachAddress(a *amqp.Attach) string {
	var address any
	if a.Role == amqp.RoleReceiver {
		if a.Source != nil {
			address = a.Source.Address
		}
	} else if target, ok := a.Target.(*amqp.Target); ok {
		address = target.Address
	}
	text, _ := amqp.Text(address)
	return text
}

// resolve finds what an address names and checks the client's right to it.
func (c *conn) resolve(address string) (node, error) {
	n := parseAddress(address)
	if n.cbs {
		return n, nil
	}
	entity, err := c.server.options.Broker.Entity(n.path)
	if err != nil {
		return n, c.notFound(n.path)
	}
	n.entity, n.path = entity, entity.Path()
	if c.server.options.Authorize != nil && !c.authorized[n.path] && !c.authorized[wholeNamespace] {
		return n, amqp.Errorf(amqp.CondUnauthorized, "Unauthorized access to %q: put a token for it to $cbs first.", n.path)
	}
	return n, nil
}

// notFound tells that there is no such entity in the service's words: by them, not by the condition, the Azure
// SDK for JavaScript tells it from a lost connection.
func (c *conn) notFound(path string) error {
	return amqp.Errorf(amqp.CondNotFound, "The messaging entity 'sb://%s/%s' could not be found.", c.host, path)
}

// parseAddress takes an address apart: an entity path with an optional
// /$management, with or without a leading slash or scheme and host.
func parseAddress(address string) node {
	path := strings.TrimPrefix(withoutHost(address), "/")
	if strings.EqualFold(path, "$cbs") {
		return node{path: "$cbs", cbs: true}
	}
	const suffix = "/$management"
	if n := len(path) - len(suffix); n >= 0 && strings.EqualFold(path[n:], suffix) {
		return node{path: path[:n], management: true}
	}
	return node{path: path}
}

// withoutHost strips scheme and host of a URI.
func withoutHost(address string) string {
	_, rest, ok := strings.Cut(address, "://")
	if !ok {
		return address
	}
	_, path, _ := strings.Cut(rest, "/")
	return path
}
