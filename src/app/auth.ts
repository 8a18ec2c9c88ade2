// Authentication: verifies tokens. Keys come from the secret or the identity provider, revocations from the database.
import { makeKeys } from '../access/jwks.ts'
import { makeRevocations } from '../access/revocations.ts'
import { makeTokens } from '../access/tokens.ts'
import type { Config } from '../config/index.ts'
import type { Shared, Storage } from './storage.ts'

export const makeAuth = (config: Config, { access }: Pick<Storage, 'access'>, { log, onError }: Shared) => {
  let onRevoked = (): void => {}
  const revocations = makeRevocations({
    stamp: access.revocationsStamp,
    names: access.revoked,
    onChange: () => onRevoked(),
  })
  const keys = config.jwksUrl
    ? makeKeys(config.jwksUrl, config.limits, (error) =>
        log.warn({ err: error }, 'keys of the identity provider could not be fetched'),
      )
    : undefined
  return {
    tokens: makeTokens({
      secret: config.jwtSecret,
      previousSecret: config.jwtSecretPrevious,
      ...(keys ? { keys } : {}),
      issuer: config.jwtIssuer,
      audience: config.jwtAudience,
      isRevoked: revocations.has,
    }),

    /** Sets the function that is called after the list of revocations has changed. */
    onRevoked(handler: () => void): void {
      onRevoked = handler
    },

    /** Reads the revocations again if they have changed. */
    checkRevocations: (): void => void revocations.check().catch(onError),

    /** The same; resolves once they are read. */
    readRevocations: revocations.check,

    /** Resolves once the revocations are read. */
    async start(): Promise<void> {
      await revocations.check()
      void keys?.warm()
    },
  }
}
export type Auth = ReturnType<typeof makeAuth>
