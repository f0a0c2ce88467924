// Command peers answers one JSON object a line with the verdict of other people's code on a log: a .tlog-proof is read
// by transparency-dev/formats, signatures are checked by golang.org/x/mod/sumdb/note, inclusion and consistency by
// transparency-dev/merkle, and tiles are fetched by Tessera's client.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"

	checkpoint "github.com/transparency-dev/formats/log"
	cosignature "github.com/transparency-dev/formats/note"
	tlogproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
)

// A question is about a proof, or, with Old and New, about two checkpoints of the log at URL.
type question struct {
	Log     string
	Witness string

	Proof string

	Old, New   string
	URL, Token string
}

type verdict struct {
	Error string `json:"error"`
	Leaf  string `json:"leaf"`
	Index uint64 `json:"index"`
	Size  uint64 `json:"size"`
	Time  int64  `json:"time"`
}

func main() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var asked question
		if err := in.Decode(&asked); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		judge := included
		if asked.Proof == "" {
			judge = consistent
		}
		found, err := judge(asked)
		if err != nil {
			found = verdict{Error: err.Error()}
		}
		if err := out.Encode(found); err != nil {
			log.Fatal(err)
		}
	}
}

// included says what a .tlog-proof proves, when the log and the witness signed its checkpoint and its extra data is the
// leaf at its index.
func included(asked question) (verdict, error) {
	var given tlogproof.TLogProof
	if err := given.Unmarshal([]byte(asked.Proof)); err != nil {
		return verdict{}, err
	}
	signed, at, err := open(given.Checkpoint, asked)
	if err != nil {
		return verdict{}, err
	}
	hashes := make([][]byte, len(given.Hashes))
	for i := range given.Hashes {
		hashes[i] = given.Hashes[i][:]
	}
	leaf := rfc6962.DefaultHasher.HashLeaf(given.ExtraData)
	err = proof.VerifyInclusion(rfc6962.DefaultHasher, given.Index, signed.Size, leaf, hashes, signed.Hash)
	return verdict{Leaf: string(given.ExtraData), Index: given.Index, Size: signed.Size, Time: at}, err
}

// consistent says whether the tree of the new checkpoint begins with that of the old one, by the tiles that are served.
func consistent(asked question) (verdict, error) {
	before, _, err := open([]byte(asked.Old), asked)
	if err != nil {
		return verdict{}, fmt.Errorf("old: %w", err)
	}
	after, at, err := open([]byte(asked.New), asked)
	if err != nil {
		return verdict{}, fmt.Errorf("new: %w", err)
	}
	root, err := url.Parse(asked.URL)
	if err != nil {
		return verdict{}, err
	}
	fetcher, err := client.NewHTTPFetcher(root, nil)
	if err != nil {
		return verdict{}, err
	}
	fetcher.SetAuthorizationHeader("Bearer " + asked.Token)
	builder, err := client.NewProofBuilder(context.Background(), after.Size, fetcher.ReadTile)
	if err != nil {
		return verdict{}, err
	}
	hashes, err := builder.ConsistencyProof(context.Background(), before.Size, after.Size)
	if err != nil {
		return verdict{}, err
	}
	err = proof.VerifyConsistency(rfc6962.DefaultHasher, before.Size, after.Size, hashes, before.Hash, after.Hash)
	return verdict{Size: after.Size, Time: at}, err
}

// open parses a checkpoint that the log signed and, where one is named, the witness cosigned, and says when.
func open(signed []byte, asked question) (*checkpoint.Checkpoint, int64, error) {
	logKey, err := note.NewVerifier(asked.Log)
	if err != nil {
		return nil, 0, err
	}
	if asked.Witness == "" {
		parsed, _, _, err := checkpoint.ParseCheckpoint(signed, logKey.Name(), logKey)
		return parsed, 0, err
	}
	witnessKey, err := cosignature.NewVerifierForCosignatureV1(asked.Witness)
	if err != nil {
		return nil, 0, err
	}
	parsed, _, opened, err := checkpoint.ParseCheckpoint(signed, logKey.Name(), logKey, witnessKey)
	if err != nil {
		return nil, 0, err
	}
	for _, signature := range opened.Sigs {
		if signature.Name == witnessKey.Name() && signature.Hash == witnessKey.KeyHash() {
			at, err := cosignature.CoSigV1Timestamp(signature)
			return parsed, at.Unix(), err
		}
	}
	return nil, 0, errors.New("no cosignature of the witness")
}
