// A component that is rendered again only if one of its props changed. (Elements kept by useMemo would do the same, but each holds the
// tree that it was made in, and so all elements before it: memory would grow with everything ever shown.)
import { Component, type ComponentType, type FunctionComponent } from 'preact'

export const memo = <P extends object>(View: FunctionComponent<P>): ComponentType<P> =>
  class extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      const names = Object.keys(next) as (keyof P)[]
      return (
        names.length !== Object.keys(this.props).length ||
        names.some((name) => next[name] !== this.props[name as never])
      )
    }
    render() {
      return <View {...this.props} />
    }
  }
