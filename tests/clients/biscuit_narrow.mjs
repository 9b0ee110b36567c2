// Narrows a Biscuit with @biscuit-auth/biscuit-wasm: JSON on standard input, one token on each line of standard output.
import { readFileSync } from "node:fs";
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;
console.error = console.log = () => {}; // it tells of itself on standard output
const { Biscuit, BlockBuilder, PublicKey, KeyPair, SignatureAlgorithm } = await import(process.argv[2]);

const { token, key, blocks, seal, thirdParty } = JSON.parse(readFileSync(0, "utf8"));
const root = PublicKey.fromString(key.replace("ed25519/", ""), SignatureAlgorithm.Ed25519);
for (const code of blocks) {
  const block = new BlockBuilder();
  block.addCode(code);
  let narrowed = Biscuit.fromBase64(token, root);
  if (thirdParty) {
    const stranger = new KeyPair(SignatureAlgorithm.Ed25519);
    const signed = narrowed.getThirdPartyRequest().createBlock(stranger.getPrivateKey(), block);
    narrowed = narrowed.appendThirdPartyBlock(stranger.getPublicKey(), signed);
  } else {
    narrowed = narrowed.appendBlock(block);
  }
  process.stdout.write((seal ? narrowed.sealToken() : narrowed).toBase64() + "\n");
}
