package queue

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// sendTimeout bounds one send, the SDK's own retries and a reconnection (3 to 5 s) included.
const sendTimeout = 15 * time.Second

// A sender sends to one entity. After a failure it goes on with a new link: with one whose entity was deleted, and made
// again, the SDK fails for ever.
type sender struct {
	client  *azservicebus.Client
	entity  string
	retired sync.WaitGroup

	mu    sync.Mutex
	now   *senderInUse // nil until the first use, and after a failure
	ended bool
}

type senderInUse struct {
	*azservicebus.Sender
	users sync.WaitGroup
}

// send is not cancelled by the step's context: at a drain, what was decided is still carried out, within its own time.
func (s *sender) send(ctx context.Context, m *azservicebus.Message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	return s.with(func(link *azservicebus.Sender) error { return link.SendMessage(ctx, m, nil) })
}

// sendSome sends as many messages as one batch takes, and returns how many those are.
func (s *sender) sendSome(ctx context.Context, messages []*azservicebus.Message) (n int, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	err = s.with(func(link *azservicebus.Sender) error {
		batch, err := link.NewMessageBatch(ctx, nil)
		if err != nil {
			return err
		}
		for n = 0; n < len(messages); n++ {
			err := batch.AddMessage(messages[n], nil)
			if errors.Is(err, azservicebus.ErrMessageTooLarge) && n > 0 {
				break
			}
			if err != nil {
				return err
			}
		}
		return link.SendMessageBatch(ctx, batch, nil)
	})
	return n, err
}

// batch opens the link, and tells by the batch how large a message may be.
func (s *sender) batch(ctx context.Context) (batch *azservicebus.MessageBatch, err error) {
	err = s.with(func(link *azservicebus.Sender) error {
		batch, err = link.NewMessageBatch(ctx, nil)
		return err
	})
	return batch, err
}

func (s *sender) with(do func(*azservicebus.Sender) error) error {
	link, err := s.use()
	if err != nil {
		return err
	}
	err = do(link.Sender)
	link.users.Done()
	if err != nil {
		s.retire(link)
	}
	return err
}

func (s *sender) use() (*senderInUse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		link, err := s.client.NewSender(s.entity, nil)
		if err != nil {
			return nil, err
		}
		s.now = &senderInUse{Sender: link}
	}
	s.now.users.Add(1)
	return s.now, nil
}

// end waits for the links that failed. The one in use ends with its client.
func (s *sender) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.retired.Wait()
}

// retire has the next send open a new link. This one ends when nobody uses it any more.
func (s *sender) retire(link *senderInUse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != link || s.ended {
		return
	}
	s.now = nil
	s.retired.Go(func() {
		link.users.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), goodbyeTimeout)
		defer cancel()
		_ = link.Close(ctx) // it has failed already
	})
}
