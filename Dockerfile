# The server's image. The final stage contains no compiler, no sources and no embedded Postgres.
# It needs DATABASE_URL and JWT_SECRET (or JWKS_URL), runs as the user node, writes nothing, and stops within 10 s of SIGTERM.
FROM node:24.21.0-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# No package script runs: the binaries that the build needs come as platform packages.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.client.json vite.config.ts ./
COPY scripts/build.js ./scripts/build.js
COPY src ./src
RUN npm run build && find dist -name '*.js.map' ! -path '*/client/page/*' -delete

FROM node:24.21.0-bookworm-slim AS modules
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The only optional dependency is the embedded Postgres, which production refuses anyway.
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

FROM node:24.21.0-bookworm-slim
LABEL org.opencontainers.image.title="Mission Deck" org.opencontainers.image.licenses="MIT"
ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000
WORKDIR /app
COPY package.json LICENSE ./
COPY --from=modules /app/node_modules ./node_modules
COPY db ./db
COPY --from=build /app/dist ./dist
USER node
EXPOSE 3000
# /healthz: the process is up. With /readyz, a database outage would restart every instance.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "--max-semi-space-size=8"]
CMD ["dist/main.js"]
