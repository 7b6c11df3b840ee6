package deletion

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// reachTimeout bounds the way to ARM's host.
const reachTimeout = 10 * time.Second

// Reach tells whether ARM could be asked: a token can be had, and ARM's host speaks TLS and has a certificate for its name. ARM is
// sent no request. Behind a proxy only the way to that is looked at, and with a transport that is not net/http's own the token alone.
func (c *Client) Reach(ctx context.Context) error {
	if _, err := c.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{c.audience + "/.default"}}); err != nil {
		return fmt.Errorf("no token for ARM: %s", cut(err.Error(), 500))
	}
	if c.transport == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := greet(ctx, c.transport, c.trust.arm); err != nil {
		return fmt.Errorf("ARM's host %s cannot be reached: %s", c.trust.arm.Host, cut(err.Error(), 500))
	}
	return nil
}

// greet connects as the transport would, and shakes hands.
func greet(ctx context.Context, t *http.Transport, u *url.URL) error {
	dial := t.DialContext
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	if t.Proxy != nil {
		proxy, err := t.Proxy(&http.Request{URL: u})
		if err != nil {
			return err
		}
		if proxy != nil {
			conn, err := dial(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), cmp.Or(proxy.Port(), map[string]string{"http": "80", "https": "443", "socks5": "1080"}[proxy.Scheme])))
			if err != nil {
				return fmt.Errorf("the proxy: %w", err)
			}
			return conn.Close()
		}
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443")))
	if err != nil {
		return err
	}
	defer conn.Close()
	settings := &tls.Config{}
	if t.TLSClientConfig != nil {
		settings = t.TLSClientConfig.Clone()
	}
	settings.ServerName = cmp.Or(settings.ServerName, u.Hostname())
	return tls.Client(conn, settings).HandshakeContext(ctx)
}
