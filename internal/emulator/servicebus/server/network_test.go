package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/internal/emulator/servicebus/broker"
	"hsmsweep/internal/emulator/servicebus/server"
)

const namespace = "test.servicebus.windows.net"

// listen serves the emulator on a TCP port of the loopback interface.
func listen(t *testing.T, e *emulator) net.Addr {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.conns.Go(func() {
		if err := e.Serve(l); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr()
}

func tcpClient(t *testing.T, addr net.Addr) *azservicebus.Client {
	client, err := azservicebus.NewClientFromConnectionString(strings.Replace(connectionString, "sb://emu", "sb://"+addr.String(), 1), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(context.Background()) })
	return client
}

type credential struct{}

func (credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "bearer", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestTLSWithCredential(t *testing.T) {
	certificate, roots := certify(t)
	type put struct{ audience, tokenType, token string }
	var mu sync.Mutex
	puts := map[put]bool{}
	e := newEmulator(t, server.Options{
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}},
		Authorize: func(audience, tokenType, token string) error {
			mu.Lock()
			defer mu.Unlock()
			puts[put{audience, tokenType, token}] = true
			return nil
		},
	})
	addr := listen(t, e)
	client, err := azservicebus.NewClient(namespace, credential{}, &azservicebus.ClientOptions{
		CustomEndpoint: addr.String(),
		TLSConfig:      &tls.Config{RootCAs: roots},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context())
	send(t, newSender(t, client, "queue"), text(strings.Repeat("secret", 30000)))
	r := newReceiver(t, client, "queue", nil)
	complete(t, r, receive(t, r))
	if want := (put{"amqps://" + namespace + "/queue", "jwt", "bearer"}); !puts[want] {
		t.Errorf("tokens put are %v, want %v among them", puts, want)
	}

	plain := tcpClient(t, addr) // on the same port
	send(t, newSender(t, plain, "queue"), text("plain"))
}

// certify makes a certificate for the namespace and a pool that trusts it.
func certify(t *testing.T) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{namespace}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
}

func TestRefusedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEmulator(t, server.Options{Authorize: func(audience, tokenType, token string) error {
			return errors.New("ExpiredToken: get another one")
		}})
		err := newSender(t, e.newClient(t), "queue").SendMessage(t.Context(), text("x"), nil)
		wantCode(t, err, azservicebus.CodeUnauthorizedAccess)
		if err != nil && !strings.Contains(err.Error(), "ExpiredToken") {
			t.Errorf("error %v does not say why", err)
		}
	})
}

// Twelve goroutines on three connections: every message is settled once.
func TestConcurrentClients(t *testing.T) {
	const clients, workers, each = 3, 2, 200
	e := newEmulator(t, server.Options{})
	addr := listen(t, e)
	var left sync.WaitGroup
	left.Add(clients * workers * each)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	for c := range clients {
		client := tcpClient(t, addr)
		s, r := newSender(t, client, "queue"), newReceiver(t, client, "queue", nil)
		for w := range workers {
			running.Go(func() {
				for n := range each {
					if err := s.SendMessage(ctx, text(fmt.Sprint(c, w, n)), nil); err != nil {
						t.Errorf("SendMessage: %v", err)
					}
				}
			})
		}
		running.Go(func() {
			for ctx.Err() == nil {
				messages, err := r.ReceiveMessages(ctx, 50, nil)
				if err != nil && ctx.Err() == nil {
					t.Errorf("ReceiveMessages: %v", err)
				}
				var settling sync.WaitGroup
				for _, m := range messages {
					settling.Go(func() {
						if err := r.CompleteMessage(context.WithoutCancel(ctx), m, nil); err != nil {
							t.Errorf("CompleteMessage: %v", err)
						}
						left.Done()
					})
				}
				settling.Wait()
			}
		})
	}
	left.Wait()
	stop()
	running.Wait()
	wantCounts(t, e, "queue", broker.Counts{})
	if v := e.broker.Violations(); v != (broker.Violations{}) {
		t.Errorf("violations: %+v", v)
	}
}

func TestClosedServer(t *testing.T) {
	e := newEmulator(t, server.Options{})
	addr := listen(t, e)
	send(t, newSender(t, tcpClient(t, addr), "queue"), text("x"))
	idle, err := net.Dial("tcp", addr.String()) // has not said anything yet
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e.conns.Wait() // Serve returned
	if n := e.Connections(); n != 0 {
		t.Errorf("%d connections are open after Close", n)
	}
	late, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Serve(late); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
	if _, err := late.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve after Close leaves the listener open: %v", err)
	}
}

func BenchmarkReceiveComplete(b *testing.B) {
	br, err := broker.New(testConfig())
	if err != nil {
		b.Fatal(err)
	}
	defer br.Close()
	s := server.New(server.Options{Broker: br})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	serving.Go(func() { s.Serve(l) })
	defer s.Close()
	client, err := azservicebus.NewClientFromConnectionString(strings.Replace(connectionString, "sb://emu", "sb://"+l.Addr().String(), 1), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close(context.Background())
	sender, err := client.NewSender("queue", nil)
	if err != nil {
		b.Fatal(err)
	}
	receiver, err := client.NewReceiverForQueue("queue", nil)
	if err != nil {
		b.Fatal(err)
	}
	const group = 64
	message := text(strings.Repeat("x", 500))
	for b.Loop() {
		var sending sync.WaitGroup
		for range group {
			sending.Go(func() {
				if err := sender.SendMessage(b.Context(), message, nil); err != nil {
					b.Error(err)
				}
			})
		}
		sending.Wait()
		for received := 0; received < group; {
			messages, err := receiver.ReceiveMessages(b.Context(), group-received, nil)
			if err != nil {
				b.Fatal(err)
			}
			received += len(messages)
			var settling sync.WaitGroup
			for _, m := range messages {
				settling.Go(func() {
					if err := receiver.CompleteMessage(b.Context(), m, nil); err != nil {
						b.Error(err)
					}
				})
			}
			settling.Wait()
		}
	}
	b.ReportMetric(float64(group*b.N)/b.Elapsed().Seconds(), "messages/s")
}
