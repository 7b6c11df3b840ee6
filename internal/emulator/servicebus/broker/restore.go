package broker

import (
	"encoding/json"
	"fmt"

	"hsmsweep/internal/emulator/servicebus/store"
)

// Open returns a broker that keeps its state in the file, which it creates if need be, with what the file says and
// the entities of c that it lacks. What is in the file wins over c, so that changes made at run time last; an entity that
// was deleted at run time and is in c comes back, empty.
//
// Locks do not last: what was locked is available again, and the delivery counts as failed (unverified: what the service
// does to locks when it fails over). What happened after the last WhenDurable or Sync may be lost, but only from some
// instant onwards. A message that was received and deleted then arrives again.
//
// The error names the file and whether it is in use, damaged or another program's, or every faulty setting of c.
func Open(file string, codec Codec, c Config) (*Broker, error) {
	s, err := store.Open(file)
	if err != nil {
		return nil, err
	}
	b := &Broker{entities: make(map[string]*Entity), journal: newJournal(s, codec)}
	if err = b.restore(); err == nil {
		err = b.configure(c)
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	b.journal.ended.Go(b.keep)
	return b, nil
}

// restore brings back what is in the store.
func (b *Broker) restore() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tick()
	var found []restored
	if err := b.journal.store.Load(func(table string, key, value []byte) error {
		if err := b.load(table, key, value, &found); err != nil {
			return fmt.Errorf("value %x of %q: %w", key, table, err)
		}
		return nil
	}); err != nil {
		return err
	}
	// Only now: an expired message may move to a queue that is loaded after its own.
	for _, m := range found {
		switch {
		case m.wasLocked: // the store need not be told: it reads the same the next time
			m.entity.deliveryFailed(m.record)
		case m.state == Scheduled:
			m.entity.schedule(m.record, m.message.ScheduledFor)
		default:
			m.entity.putBack(m.record)
		}
	}
	return nil
}

// A restored record is filed but neither available nor on the agenda.
type restored struct {
	*record
	entity    *Entity
	wasLocked bool
}

// load takes in one value; the values that it depends on came before.
func (b *Broker) load(table string, key, value []byte, found *[]restored) error {
	kind, number, err := parseKey(key)
	if err != nil {
		return err
	}
	if kind == entityKey {
		return b.loadEntity(table, value)
	}
	e, err := b.find(table)
	if err != nil {
		return err
	}
	switch kind {
	case acceptedKey:
		a, err := decodeAcceptance(value)
		if err != nil {
			return err
		}
		e.accepted.remember(a.id, number, a.at)
	case messageKey:
		m, err := b.journal.codec.DecodeMessage(value)
		if err != nil {
			return err
		}
		e.log = append(e.log, &record{message: m, number: number})
	case stateKey:
		r := e.at(number)
		if r == nil {
			return fmt.Errorf("message %d is not there", number)
		}
		wasLocked, err := decodeRecord(r, value, b.journal.codec)
		if err != nil {
			return err
		}
		e.counts[r.state]++
		e.bytes += int64(r.message.Size)
		*found = append(*found, restored{r, e, wasLocked})
	default:
		return fmt.Errorf("a value of unknown kind %d", kind)
	}
	return nil
}

func (b *Broker) loadEntity(table string, value []byte) error {
	var stored storedEntity
	if err := json.Unmarshal(value, &stored); err != nil {
		return err
	}
	e := b.entities[table]
	switch {
	case e != nil && e.isDeadLetterQueue(): // it came with its owner
	case stored.Kind == Queue:
		e = newQueue(b, Queue, stored.Config)
	case stored.Kind == Topic:
		e = newEntity(b, Topic, stored.Config)
	case stored.Kind == Subscription:
		topic, err := b.find(stored.Topic)
		if err != nil {
			return err
		}
		e = newQueue(b, Subscription, stored.Config)
		e.parent = topic
		topic.subscriptions = append(topic.subscriptions, e)
	default:
		return fmt.Errorf("an entity of unknown kind %d", stored.Kind)
	}
	for _, r := range stored.Rules {
		rule, err := r.decode(b.journal.codec)
		if err != nil {
			return err
		}
		e.rules = append(e.rules, rule)
	}
	e.createdAt, e.updatedAt, e.accessedAt = stored.CreatedAt, stored.UpdatedAt, stored.AccessedAt
	e.lastNumber = stored.LastNumber
	b.file(e)
	return nil
}
