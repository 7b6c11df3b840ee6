package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/go-json-experiment/json"

	"hsmsweep/deletion"
)

// loopVariable makes the test binary one of the loops.
const loopVariable = "HSMSWEEP_BENCH_LOOP"

// The loops.
const (
	bareLoop    = "bare"    // one DELETE a message
	echoLoop    = "echo"    // nothing a message but an event
	holdingLoop = "holding" // one operation a message, to its end
)

// concurrency is the worker's default.
const concurrency = 64

// A deleter is what a loop does between receiving and publishing.
type deleter func(ctx context.Context, connectionID string) error

// runLoop is a loop until SIGTERM. It prints the allocations of each message.
func runLoop(kind string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	remove, err := newDeleter(ctx, kind)
	if err != nil {
		return err
	}
	client, err := azservicebus.NewClientFromConnectionString(os.Getenv("HSMSWEEP_CONNECTION_STRING"), nil)
	if err != nil {
		return err
	}
	receiver, err := client.NewReceiverForQueue(queueName, nil)
	if err != nil {
		return err
	}
	events, err := client.NewSender(eventsName, nil)
	if err != nil {
		return err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := loop(ctx, receiver, events, remove)
	runtime.ReadMemStats(&after)
	fmt.Println((after.Mallocs - before.Mallocs) / uint64(max(n, 1)))
	return err
}

// loop receives ahead of its goroutines, which is the fastest way, and returns the number of messages.
func loop(until context.Context, receiver *azservicebus.Receiver, events *azservicebus.Sender, remove deleter) (int, error) {
	ctx, fail := context.WithCancelCause(until)
	defer fail(nil)
	messages := make(chan *azservicebus.ReceivedMessage)
	var running sync.WaitGroup
	var done atomic.Int64
	for range concurrency {
		running.Go(func() {
			for m := range messages {
				if err := handle(context.WithoutCancel(ctx), receiver, events, remove, m); err != nil {
					fail(err)
				}
				done.Add(1)
			}
		})
	}
	for ctx.Err() == nil {
		received, err := receiver.ReceiveMessages(ctx, concurrency, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
		if err != nil && ctx.Err() == nil {
			fail(err)
		}
		for _, m := range received {
			messages <- m
		}
	}
	close(messages)
	running.Wait()
	if until.Err() == nil {
		return int(done.Load()), context.Cause(ctx)
	}
	return int(done.Load()), nil
}

// eventBody is as long as hsmsweep's events are.
var eventBody = bytes.Repeat([]byte("x"), 1100)

func handle(ctx context.Context, receiver *azservicebus.Receiver, events *azservicebus.Sender, remove deleter, m *azservicebus.ReceivedMessage) error {
	var request struct {
		ConnectionID string `json:"connectionId"`
	}
	if err := json.Unmarshal(m.Body, &request); err != nil {
		return err
	}
	if err := remove(ctx, request.ConnectionID); err != nil {
		return err
	}
	if err := events.SendMessage(ctx, &azservicebus.Message{MessageID: new(m.MessageID + "/end"), Body: eventBody}, nil); err != nil {
		return err
	}
	return receiver.CompleteMessage(ctx, m, nil)
}

func newDeleter(ctx context.Context, kind string) (deleter, error) {
	if kind == echoLoop {
		return func(context.Context, string) error { return nil }, nil
	}
	token, err := fetchToken(ctx, os.Getenv)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: deletion.NewTransport()}
	if kind == holdingLoop {
		return holdingDeleter(token, client)
	}
	endpoint := os.Getenv("HSMSWEEP_ARM_ENDPOINT")
	return func(ctx context.Context, id string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodDelete, endpoint+id+"?api-version=2021-10-01", nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+string(token))
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("DELETE %s: %s", id, resp.Status)
		}
		return nil
	}, nil
}

// holdingDeleter waits for the operation's end as the SDK does.
func holdingDeleter(token bearer, client *http.Client) (deleter, error) {
	options := &arm.ClientOptions{ClientOptions: policy.ClientOptions{Transport: client, Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: os.Getenv("HSMSWEEP_ARM_ENDPOINT"), Audience: os.Getenv("HSMSWEEP_ARM_AUDIENCE")}}}}, DisableRPRegistration: true}
	connections, err := armkeyvault.NewMHSMPrivateEndpointConnectionsClient(subscriptionID, token, options)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, id string) error {
		parsed, err := arm.ParseResourceID(id)
		if err != nil {
			return err
		}
		operation, err := connections.BeginDelete(ctx, parsed.ResourceGroupName, parsed.Parent.Name, parsed.Name, nil)
		if err != nil {
			return err
		}
		_, err = operation.PollUntilDone(ctx, nil)
		return err
	}, nil
}

// A bearer is a token, got once.
type bearer string

// GetToken is azcore's.
func (t bearer) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(t), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func fetchToken(ctx context.Context, variable func(string) string) (bearer, error) {
	u := variable("IDENTITY_ENDPOINT") + "?api-version=2019-08-01&resource=" + url.QueryEscape(variable("HSMSWEEP_ARM_AUDIENCE"))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("X-IDENTITY-HEADER", variable("IDENTITY_HEADER"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var body struct {
		AccessToken string `json:"access_token"`
	}
	err = json.UnmarshalRead(resp.Body, &body)
	return bearer(body.AccessToken), err
}
