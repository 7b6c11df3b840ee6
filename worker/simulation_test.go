package worker_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/internal/emulator/fault"
	"hsmsweep/internal/emulator/servicebus/broker"
)

var (
	simSeed = flag.Uint64("sim.seed", 0, "TestSimulation with this seed only")
	simRuns = flag.Int("sim.runs", 0, "TestSimulation with so many seeds")
	simFor  = flag.Duration("sim.for", 5*time.Second, "TestSimulation with as many seeds as fit into this time")
)

const (
	simRequests  = 150
	simReplicas  = 3
	simDisturbed = 20 * time.Minute // of virtual time, in which things go wrong
	simFaults    = 0.03             // of the operations
)

// TestSimulation has three workers, 150 requests of all kinds, and twenty minutes of virtual time in which everything goes wrong at
// random: single operations, connections, locks, whole services; workers die with any of their writes, drain, start. Then
// it lets the system come to rest, and the oracle judges it. What goes wrong derives from a seed; one that fails is printed.
func TestSimulation(t *testing.T) {
	began := time.Now()
	if *simSeed != 0 {
		simulate(t, *simSeed)
		return
	}
	if testing.Short() {
		*simFor /= 2
	}
	runs, first := 0, uint64(began.UnixNano())
	for more := true; more && !t.Failed(); runs++ {
		seed := first + uint64(runs)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			simulate(t, seed)
			if t.Failed() {
				t.Logf("again: go test ./worker -run TestSimulation -sim.seed %d", seed)
			}
		})
		more = runs+1 < *simRuns || *simRuns == 0 && time.Since(began) < *simFor
	}
	t.Logf("%d seeds in %s, %d requests each", runs, time.Since(began).Round(time.Second), simRequests)
}

// TestCalm is a simulation in which nothing goes wrong: nothing is asked too early, no lock is lost, and nobody is excused.
func TestCalm(t *testing.T) { simulateFor(t, 7, 0) }

// A simulation is one run.
type simulation struct {
	*system
	*oracle
	seed     uint64
	rng      *rand.Rand // of what befalls the system as a whole; single operations have dice of their own
	ends     time.Time  // of all trouble
	replicas []*replica

	mu    sync.Mutex
	seen  map[fault.Operation]int
	down  map[string]time.Time // services that refuse everything, until when
	queue broker.QueueConfig
	topic broker.QueueConfig
}

func simulate(t *testing.T, seed uint64) { simulateFor(t, seed, simDisturbed) }

func simulateFor(t *testing.T, seed uint64, disturbed time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var plans []plan
	for i := range simRequests {
		plans = append(plans, planned(kinds[rng.IntN(len(kinds))], fmt.Sprint("r", i)))
	}
	entities := broker.DefaultConfig()
	entities.Topics[0].DuplicateDetectionWindow = 7 * 24 * time.Hour // as the README says
	inVirtualTimeWith(t, entities, seedOf(plans), func(t *testing.T, s *system) {
		m := &simulation{system: s, oracle: newOracle(s, plans), seed: seed, rng: rng, ends: time.Now().Add(disturbed),
			seen: map[fault.Operation]int{}, down: map[string]time.Time{}}
		m.queue, m.topic = m.settings("connection-deletes"), m.settings("connection-events")
		s.inject(m.chooses)
		for range simReplicas {
			m.replicas = append(m.replicas, s.work())
		}
		var submitting sync.WaitGroup
		submitting.Go(func() { m.submitAll(plans, rand.New(rand.NewPCG(seed, 2))) })
		for time.Now().Before(m.ends) {
			m.befall()
			<-time.After(time.Duration(rng.IntN(90)+5) * time.Second)
		}
		submitting.Wait()
		if disturbed > 0 {
			m.repair()
		}
		if !s.rest(12 * time.Hour) {
			t.Errorf("after twelve hours the queue has %+v", s.counts())
		}
		<-time.After(6 * time.Minute) // what the broker gave up is taken back by then
		s.rest(12 * time.Hour)
		s.inject(nil)
		for _, r := range m.replicas {
			r.stop()
		}
		synctest.Wait()
		for _, problem := range m.judge() {
			t.Error(problem)
		}
		t.Logf("disturbed %d times; ARM was asked %d times", m.disturbed, len(s.ARM.Exchanges()))
	})
}

// chooses what goes wrong with an operation. It depends on the seed and on the operation alone, and on how often that very
// operation was seen, so that a seed means the same however goroutines are scheduled.
func (m *simulation) chooses(op fault.Operation) fault.Fault {
	m.sees(op)
	key := op
	key.Target, _, _ = strings.Cut(key.Target, "kv-operation=") // what follows has a time in it
	m.mu.Lock()
	m.seen[key]++
	n, down := m.seen[key], time.Now().Before(m.down[op.Service])
	m.mu.Unlock()
	dice := rand.New(rand.NewPCG(m.seed, hashed(fmt.Sprint(key, n))))
	switch {
	case !time.Now().Before(m.ends):
		return fault.Fault{}
	case down:
		m.disturb(1)
		return fault.Fault{Kind: fault.Refused}
	case dice.Float64() >= simFaults:
		return fault.Fault{}
	}
	m.disturb(1)
	f := fault.Fault{Kind: fault.Kinds[dice.IntN(len(fault.Kinds))]}
	if f.Kind == fault.Silent && (op.Name == "attach" || op.Name == "put-token") {
		f.Kind = fault.Unanswered // see TestEveryFault
	}
	if dice.IntN(3) == 0 && op.Service != fault.Identity {
		f = fault.Fault{Delay: time.Duration(dice.IntN(20_000)) * time.Millisecond}
	}
	return f
}

func hashed(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// befall does something to the system as a whole.
func (m *simulation) befall() {
	inHand := simReplicas * 8
	switch i := m.rng.IntN(len(m.replicas)); m.rng.IntN(13) {
	case 0, 1, 2, 3: // a replica dies, and another one comes
		m.disturb(inHand)
		m.replicas[i].dieWithin(1+m.rng.IntN(60), m.rng.IntN(2) == 0)
		select {
		case <-m.replicas[i].crashed:
		case <-time.After(2 * time.Minute):
			m.replicas[i].die() // while it has nothing to do
		}
		m.replicas[i].drain() // what is left of it has no effect any more
		<-time.After(time.Duration(m.rng.IntN(20)) * time.Second)
		m.replicas[i] = m.work()
	case 4, 5: // scale-in, and out
		m.replicas[i].stop()
		<-time.After(time.Duration(m.rng.IntN(60)) * time.Second)
		m.replicas[i] = m.work()
	case 6:
		m.disturb(inHand)
		m.Broker.ExpireLocks()
	case 7:
		m.disturb(inHand)
		m.ServiceBus.CloseConnections()
	case 8: // a service is down: throttles everybody, or has no tokens
		services := []string{fault.ServiceBus, fault.ARM, fault.Identity}
		m.disturb(inHand)
		m.mu.Lock()
		m.down[services[m.rng.IntN(len(services))]] = time.Now().Add(time.Duration(m.rng.IntN(180)) * time.Second)
		m.mu.Unlock()
	case 9, 10: // an entity is closed for a while
		m.disturb(inHand)
		e, c := "connection-deletes", m.queue
		if m.rng.IntN(2) == 0 {
			e, c = "connection-events", m.topic
		}
		c.Status = []broker.Status{broker.Disabled, broker.SendDisabled, broker.ReceiveDisabled}[m.rng.IntN(3)]
		m.set(e, c)
		<-time.After(time.Duration(m.rng.IntN(180)) * time.Second)
		c.Status = broker.Enabled
		m.set(e, c)
	case 11: // the topic is full
		m.disturb(inHand)
		full := m.topic
		full.MaxSizeBytes = 1
		m.set("connection-events", full)
		<-time.After(time.Duration(m.rng.IntN(180)) * time.Second)
		m.set("connection-events", m.topic)
	case 12: // receivers are forgotten
		m.disturb(inHand)
		e, err := m.Broker.Entity("connection-deletes")
		if err != nil {
			m.t.Fatal(err)
		}
		e.Deafen()
	}
}

// repair ends what lasts.
func (m *simulation) repair() {
	m.set("connection-deletes", m.queue)
	m.set("connection-events", m.topic)
}

func (m *simulation) settings(entity string) broker.QueueConfig {
	e, err := m.Broker.Entity(entity)
	if err != nil {
		m.t.Fatal(err)
	}
	return e.Describe().Config
}

func (m *simulation) set(entity string, c broker.QueueConfig) {
	e, err := m.Broker.Entity(entity)
	if err == nil {
		err = e.Update(c)
	}
	if err != nil {
		m.t.Error(err)
	}
}

// submitAll sends the requests over the first ten minutes. What fails is sent again, under the same id.
func (m *simulation) submitAll(plans []plan, rng *rand.Rand) {
	for _, p := range plans {
		for {
			if err := m.trySend(p.name, p.text()); err == nil {
				break
			}
			<-time.After(5 * time.Second)
		}
		<-time.After(time.Duration(rng.IntN(8000)) * time.Millisecond)
	}
}

func (m *simulation) trySend(id, body string) error {
	sender, err := m.client.NewSender("connection-deletes", nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(sender.SendMessage(ctx, &azservicebus.Message{MessageID: &id, Body: []byte(body)}, nil), sender.Close(context.Background()))
}
