package broker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const subscriptionsInfix = "/Subscriptions/"

// A Description is what an entity is and holds, at one instant.
type Description struct {
	Kind          Kind
	Path          string
	Name          string      // the path, of a subscription without its topic's
	Config        QueueConfig // the settings in force; what its kind of entity does not have means nothing
	Subscriptions int         // of a topic
	Rules         []Rule      // of a subscription, or of all subscriptions of a topic
	Counts        Counts

	CreatedAt, UpdatedAt time.Time
	AccessedAt           time.Time // last send or wish to receive; before the first zero, of a subscription CreatedAt
}

// CreateQueue adds a queue. The error is ErrExists, or names every faulty setting.
func (b *Broker) CreateQueue(c QueueConfig) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.add(c.check(), newQueue(b, Queue, c))
}

// CreateTopic adds a topic with its subscriptions, all or none. Errors are as those of CreateQueue.
func (b *Broker) CreateTopic(c TopicConfig) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	topic := newTopic(b, c)
	return b.add(c.check(), append([]*Entity{topic}, topic.subscriptions...)...)
}

// CreateSubscription adds a subscription, for messages that become active from now on. Errors are as those of
// CreateQueue, and ErrNotFound if there is no such topic.
func (b *Broker) CreateSubscription(topic string, c SubscriptionConfig) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(topic)
	if err != nil {
		return err
	}
	if t.kind != Topic {
		return fmt.Errorf("%s %q has no subscriptions, only topics have: %w", t.kind, t.path, ErrNotAllowed)
	}
	t.begin()
	s := newSubscription(t, c)
	if err := b.add(c.check(t.path), s); err != nil {
		return err
	}
	t.subscriptions = append(t.subscriptions, s)
	return nil
}

// Delete removes a queue, topic or subscription with everything in it and below it: messages, locks,
// dead-letter queues, subscriptions. Errors are ErrNotFound, and ErrNotAllowed for a dead-letter queue.
func (b *Broker) Delete(path string) error {
	tell, err := b.remove(path)
	for _, f := range tell {
		f(true)
	}
	return err
}

// OnClose has f called when the service closes the links of the entity: when it is updated, and when it is deleted, at
// once if it has been. f runs in the goroutine of whoever does that, without the broker's lock. stop undoes OnClose; a
// call that is under way may outlast it.
func (e *Entity) OnClose(f func(deleted bool)) (stop func()) {
	if !e.watch(&f) {
		f(true)
	}
	return func() {
		e.broker.mu.Lock()
		defer e.broker.mu.Unlock()
		delete(e.onClose, &f)
	}
}

// Update replaces the settings; a zero value means its default, and the name is not looked at. What is new
// holds for locks, messages and failed deliveries from now on. Errors are ErrNotFound, ErrNotAllowed for a
// dead-letter queue and where duplicate detection would be switched, or name every faulty setting.
func (e *Entity) Update(c QueueConfig) error {
	tell, err := e.update(c)
	for _, f := range tell {
		f(false)
	}
	return err
}

// Describe describes the entity.
func (e *Entity) Describe() Description {
	e.enter()
	defer e.leave()
	d := Description{
		Kind:          e.kind,
		Path:          e.path,
		Name:          e.path,
		Config:        e.config,
		Subscriptions: len(e.subscriptions),
		Rules:         slices.Clone(e.rules),
		Counts:        e.count(),
		CreatedAt:     e.createdAt,
		UpdatedAt:     e.updatedAt,
		AccessedAt:    e.accessedAt,
	}
	if e.kind == Subscription {
		d.Name = strings.TrimPrefix(e.path, e.parent.path+subscriptionsInfix)
	}
	for _, s := range e.subscriptions {
		d.Rules = append(d.Rules, s.rules...)
	}
	return d
}

// Subscriptions returns the subscriptions of a topic by path.
func (e *Entity) Subscriptions() []*Entity {
	e.enter()
	defer e.leave()
	return slices.SortedFunc(slices.Values(e.subscriptions), func(x, y *Entity) int { return strings.Compare(x.path, y.path) })
}

// update returns whom to tell.
func (e *Entity) update(c QueueConfig) (tell []func(deleted bool), err error) {
	e.enter()
	defer e.leave()
	switch {
	case e.deleted:
		return nil, e.alive()
	case e.kind == DeadLetterQueue:
		return nil, fmt.Errorf("update %s, update the entity that it belongs to: %w", e.path, ErrNotAllowed)
	case (c.DuplicateDetectionWindow > 0) != (e.config.DuplicateDetectionWindow > 0):
		return nil, fmt.Errorf("%s %q: duplicate detection is switched on or off at creation only: %w", e.kind, e.path, ErrNotAllowed)
	}
	if err := faults(e.kind.String(), e.path, c.checkSettings()...); err != nil {
		return nil, err
	}
	c.Name = e.config.Name
	e.config = c.withDefaults()
	if e.deadLetter != nil {
		e.deadLetter.config.LockDuration = e.config.LockDuration
	}
	e.updatedAt = e.broker.now
	e.noteEntity()
	return e.watchers(), nil
}

// configure creates the entities of c that are not there.
func (b *Broker) configure(c Config) error {
	known := maps.Clone(b.entities)
	var faults []error
	for _, q := range c.Queues {
		if known[keyOfPath(q.Name)] != nil {
			faults = append(faults, q.check())
		} else {
			faults = append(faults, b.CreateQueue(q))
		}
	}
	for _, t := range c.Topics {
		topic := known[keyOfPath(t.Name)]
		if topic == nil {
			faults = append(faults, b.CreateTopic(t))
			continue
		}
		faults = append(faults, t.check())
		for _, s := range t.Subscriptions {
			if topic.kind == Topic && known[keyOfPath(t.Name+subscriptionsInfix+s.Name)] == nil {
				faults = append(faults, b.CreateSubscription(t.Name, s))
			}
		}
	}
	return errors.Join(faults...)
}

// add files new entities, all or none, with their dead-letter queues. faulty is what is wrong with their settings.
func (b *Broker) add(faulty error, entities ...*Entity) error {
	b.tick()
	all := []error{faulty}
	added := make(map[string]bool)
	for _, e := range entities {
		if key := e.key(); b.entities[key] != nil || added[key] {
			all = append(all, fmt.Errorf("%s: %w", e.path, ErrExists))
		} else {
			added[key] = true
		}
	}
	if err := errors.Join(all...); err != nil {
		return err
	}
	for _, e := range entities {
		e.createdAt, e.updatedAt = b.now, b.now
		if e.kind == Subscription {
			e.accessedAt = b.now
		}
		b.file(e)
		e.noteEntity()
	}
	return nil
}

// file makes an entity and its dead-letter queue found by their paths.
func (b *Broker) file(e *Entity) {
	b.entities[e.key()] = e
	if e.deadLetter != nil {
		b.entities[e.deadLetter.key()] = e.deadLetter
	}
}

// remove takes out the entity and returns whom to tell.
func (b *Broker) remove(path string) (tell []func(deleted bool), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, err := b.find(path)
	if err != nil {
		return nil, err
	}
	switch e.kind {
	case DeadLetterQueue:
		return nil, fmt.Errorf("delete %s, delete the entity that it belongs to: %w", e.path, ErrNotAllowed)
	case Subscription:
		e.parent.subscriptions = slices.DeleteFunc(e.parent.subscriptions, func(s *Entity) bool { return s == e })
	}
	return e.end(), nil
}

// end empties e and what is below it, and returns whom to tell.
func (e *Entity) end() (tell []func(deleted bool)) {
	if e.timer != nil {
		e.timer.Stop()
	}
	tell = e.watchers()
	below := e.subscriptions
	if e.deadLetter != nil {
		below = append(below, e.deadLetter)
	}
	e.deleted, e.onClose, e.subscriptions, e.contents = true, nil, nil, newContents()
	delete(e.broker.entities, e.key())
	e.noteEnd()
	for _, x := range below {
		tell = append(tell, x.end()...)
	}
	return tell
}

// watch reports whether e was still there to be watched.
func (e *Entity) watch(f *func(bool)) bool {
	e.broker.mu.Lock()
	defer e.broker.mu.Unlock()
	if e.deleted {
		return false
	}
	e.onClose[f] = true
	return true
}

func (e *Entity) watchers() (all []func(deleted bool)) {
	for f := range e.onClose {
		all = append(all, *f)
	}
	return all
}

// alive is ErrNotFound once e was deleted.
func (e *Entity) alive() error {
	if e.deleted {
		return fmt.Errorf("%q was deleted: %w", e.path, ErrNotFound)
	}
	return nil
}
