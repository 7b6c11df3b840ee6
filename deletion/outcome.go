package deletion

import "time"

// A Kind says in one word what an answer of ARM means.
type Kind string

const (
	Deleted     Kind = "deleted"     // gone, and this DELETE or its operation did it
	Absent      Kind = "absent"      // it, its pool or its resource group does not exist
	Present     Kind = "present"     // read and found; see Outcome.Found
	Accepted    Kind = "accepted"    // an operation began; see Outcome.Operation
	Running     Kind = "running"     // the operation goes on
	Throttled   Kind = "throttled"   // 429: the subscription (or the provider) has had enough for now
	Conflict    Kind = "conflict"    // 409: another change is under way
	Denied      Kind = "denied"      // 401, or 403 AuthorizationFailed: a role may still be spreading
	Rejected    Kind = "rejected"    // ARM will not do this, however often it is asked
	Failed      Kind = "failed"      // the operation ended, and not in a deletion
	Unavailable Kind = "unavailable" // no answer, or one that says "later"
	Expired     Kind = "expired"     // the operation is not known any more and the connection is still there
	Untrusted   Kind = "untrusted"   // the operation URL is not one that may be asked; nothing was sent
)

// Kinds is every kind there is.
var Kinds = []Kind{Deleted, Absent, Present, Accepted, Running, Throttled, Conflict, Denied, Rejected, Failed, Unavailable, Expired, Untrusted}

// CodeUntrusted is the error code of an operation URL on an untrusted host.
const CodeUntrusted = "UntrustedOperationUrl"

// An Outcome is what one step at ARM came to. Fields that do not apply are zero.
type Outcome struct {
	Kind         Kind
	Operation    Operation     // Accepted, Running: what to poll next
	Found        Connection    // Present: as it was read
	Listed       []Connection  // Present, of a search: each once, in the order of their ids
	Pool         *Pool         // Present, where the pool was read too
	Verified     bool          // Deleted: the connection was read back, and is gone
	RetryAfter   time.Duration // what ARM asked for, uncapped; 0: it did not say
	Left         *int          // how many more such requests ARM takes from the subscription now; nil: it did not say
	Sent         int           // how often the question went out: 0 without a token or a connection, more after a challenge
	HTTPStatus   int           // 0: there was no answer
	ARMRequestID string        // x-ms-request-id
	Code         string        // CloudError's code, or one derived from the status
	Message      string        // CloudError's message, localised by ARM
}

// An Operation is a deletion that ARM goes on with by itself.
type Operation struct {
	URL      string   `json:"url,omitzero"` // empty: ARM gave none, so that only reading the connection back tells
	Protocol Protocol `json:"protocol"`
}

// A Protocol is the way in which an operation tells how it stands.
type Protocol string

const (
	Location       Protocol = "Location"             // the HTTP status tells: 202 while it runs
	AsyncOperation Protocol = "Azure-AsyncOperation" // the body's status tells; Operation-Location is the same
	ReadBack       Protocol = "ReadBack"             // there is no URL: the connection itself tells
)

// A Connection is what ARM says of a private endpoint connection.
type Connection struct {
	ID       ConnectionID // of one that was listed
	Status   string       // the link's state: a LinkStatus, or a word Azure has not documented yet
	Endpoint string       // ARM id of the private endpoint, in ARM's spelling
	State    string       // provisioningState
}
