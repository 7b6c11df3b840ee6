package deletion

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

const (
	tokenTimeout = 4 * time.Second // for one token: it is waited for with a lock held
	tokenPause   = 5 * time.Second // after a failure
)

// A calmCredential keeps an outage of the token endpoint from holding up steps, and with them locks. azcore lets one request
// at a time ask for a token and the others wait for it, deaf to their contexts; when it fails the next one asks, so that
// sixty waiting steps would take sixty time-outs. Here a failure answers for the next few seconds too.
type calmCredential struct {
	credential azcore.TokenCredential

	mu     sync.Mutex
	failed error
	until  time.Time
}

// GetToken is azcore's. Its error is the credential's own, or the one of a moment ago.
func (c *calmCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if err := c.recent(); err != nil {
		return azcore.AccessToken{}, err
	}
	asked, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	token, err := c.credential.GetToken(asked, o)
	if err != nil && ctx.Err() == nil { // a caller who gave up tells nothing of the endpoint
		// As plain text: azidentity's error reads a response when it is printed, which two steps must not do at once.
		err = errors.New(err.Error())
		c.mu.Lock()
		defer c.mu.Unlock()
		c.failed, c.until = err, time.Now().Add(tokenPause)
	}
	return token, err
}

func (c *calmCredential) recent() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return c.failed
	}
	return nil
}
