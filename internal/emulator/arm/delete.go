package arm

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
)

func (s *Simulator) deleteConnection(q request) *reply {
	target, refused := s.findConnection(q)
	switch {
	case refused != nil:
		return refused
	case target == nil:
		return newReply(http.StatusNoContent)
	case target.operation != nil:
		return target.operation.accepted(q.now)
	case target.pool.Conflicts && s.busy(target.pool, q):
		return Answer{Status: http.StatusConflict}.reply(target, q.now)
	case target.answered == len(target.Script.Deletes):
		return s.perform(Answer{Status: http.StatusOK}, target, q)
	}
	answer := target.Script.Deletes[target.answered]
	target.answered++
	return s.perform(answer, target, q)
}

func (s *Simulator) busy(p *pool, q request) bool {
	for name := range p.connections {
		if other := s.present(p, name, q.now); other != nil && other.operation != nil {
			return true
		}
	}
	return false
}

func (s *Simulator) perform(answer Answer, target *connection, q request) *reply {
	switch {
	case answer.Status == http.StatusOK:
		target.gone = true
		return jsonReply(http.StatusOK, target.deletedBody())
	case answer.Status == http.StatusNoContent:
		target.gone = true
		return newReply(http.StatusNoContent)
	case answer.Status == http.StatusAccepted:
		return s.start(answer, target, q).accepted(q.now)
	}
	target.gone = answer.Applied
	return answer.reply(target, q.now)
}

// deletedBody has the provisioning state of the specification's example of a successful delete.
func (c *connection) deletedBody() connectionBody {
	body := c.body()
	body.Properties.ProvisioningState = "Disconnected"
	return body
}

// codes are the error codes of scripted answers that give none.
var codes = map[int]string{
	http.StatusBadRequest:          "BadRequest",
	http.StatusUnauthorized:        "ExpiredAuthenticationToken",
	http.StatusForbidden:           "AuthorizationFailed",
	http.StatusNotFound:            "ResourceNotFound",
	http.StatusConflict:            "ConflictError",
	http.StatusInternalServerError: "InternalServerError",
}

func codeOf(status int) string {
	return cmp.Or(codes[status], strings.ReplaceAll(http.StatusText(status), " ", ""), "UnknownError")
}

func messageOf(code string, target *connection) string {
	switch code {
	case "ScopeLocked":
		return fmt.Sprintf("The scope '%s' cannot perform delete operation because following scope(s) are locked: '%s'. Please remove the lock and try again.", target.id, target.pool.ID)
	case "ConflictError":
		return fmt.Sprintf("Another change of '%s' is in progress. Serialize the changes of one resource and try again.", target.pool.ID)
	case "AuthorizationFailed":
		return fmt.Sprintf("The client does not have authorization to perform action 'Microsoft.KeyVault/managedHSMs/privateEndpointConnections/delete' over scope '%s'.", target.id)
	}
	return fmt.Sprintf("The simulator was told to answer %s for '%s'.", code, target.id)
}
