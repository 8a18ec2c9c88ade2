// A component that is rendered again only if one of its props changed. useMemo could keep the elements instead. But each element holds
// the tree that it was made in, so memory would grow with everything that was ever shown.
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
