package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/queue"
	"hsmsweep/worker"
)

const (
	defaultQueue        = "connection-deletes"
	defaultEvents       = "connection-events"
	defaultSubscription = "all"
)

// connection is how a command reaches Service Bus.
type connection struct {
	Namespace        string `help:"Fully qualified namespace, such as NAME.servicebus.windows.net; authenticates with DefaultAzureCredential." placeholder:"HOST"`
	ConnectionString string `help:"Connection string with a shared access key, or the emulator's. Either this or --namespace." placeholder:"STRING"`
	Queue            string `help:"The request queue." default:"${queue}"`
	Events           string `help:"Topic (or queue) for events." default:"${events}"`
	Subscription     string `help:"Subscription of the events topic, for reading events; empty when --events is a queue." default:"${subscription}"`
}

func (c *connection) check() error {
	switch {
	case c.Namespace == "" && c.ConnectionString == "":
		return errors.New("one of --namespace and --connection-string is required")
	case c.Namespace != "" && c.ConnectionString != "":
		return errors.New("--namespace and --connection-string exclude each other")
	case c.Queue == "":
		return errors.New("--queue is empty")
	case c.Events == "":
		return errors.New("--events is empty")
	case strings.EqualFold(c.Queue, c.Events):
		return errors.New("--queue and --events name the same entity: every event would become a request")
	case strings.ContainsAny(c.Namespace, ":/ "):
		return fmt.Errorf("--namespace is %q, expected a host name such as NAME.servicebus.windows.net", c.Namespace)
	}
	return nil
}

// dial makes a client; it connects with its first use. The credential is asked for only when a namespace is used.
func (c *connection) dial(credential func() (azcore.TokenCredential, error)) (*azservicebus.Client, error) {
	options := &azservicebus.ClientOptions{
		ApplicationID: "hsmsweep",
		// The SDK's own pauses (4, 12, 28 s) are longer than a lock should be held for.
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 500 * time.Millisecond, MaxRetryDelay: 4 * time.Second},
	}
	if c.ConnectionString != "" {
		client, err := azservicebus.NewClientFromConnectionString(c.ConnectionString, options)
		if err != nil {
			return nil, config(errors.New("--connection-string: " + err.Error()))
		}
		return client, nil
	}
	token, err := credential()
	if err != nil {
		return nil, err
	}
	return azservicebus.NewClient(c.Namespace, token, options)
}

// defaultCredential is azidentity's chain: environment, workload identity, managed identity, developer tools.
func defaultCredential(where cloud.Configuration) func() (azcore.TokenCredential, error) {
	return func() (azcore.TokenCredential, error) {
		credential, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: policy.ClientOptions{
			Cloud: where,
			Retry: policy.RetryOptions{MaxRetries: 1}, // what fails twice is tried again by a later step, without a lock held
		}})
		if err != nil { // it looks at the AZURE_ variables only
			return nil, config(fmt.Errorf("no credential: %w", err))
		}
		return credential, nil
	}
}

// operate has an operator of the request queue do something, unless the configuration is wrong.
func (c *connection) operate(ctx context.Context, std streams, wrong error, do func(*worker.Operator) error) error {
	if err := config(c.check(), wrong); err != nil {
		return err
	}
	operator, stop, err := c.operator(ctx, std.err)
	if err != nil {
		return err
	}
	defer stop()
	return do(operator)
}

// operator makes an operator of the request queue, and what ends its connection.
func (c *connection) operator(ctx context.Context, warnings io.Writer) (*worker.Operator, func(), error) {
	log, err := newLogger(warnings, "text", "warn")
	if err != nil {
		return nil, nil, err
	}
	dial := func() (*azservicebus.Client, error) { return c.dial(defaultCredential(cloud.AzurePublic)) }
	q, err := queue.Open(dial, c.Queue, c.Events, log)
	if err != nil {
		return nil, nil, err
	}
	tracing, err := startTracing(ctx)
	if err != nil {
		return nil, nil, err
	}
	return worker.NewOperator(q, c.Queue, tracing), func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = q.Close(closing) // what was to be done is done
		tracing.stop(log)
	}, nil
}
